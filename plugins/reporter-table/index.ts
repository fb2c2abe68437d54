import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { TableReporter } from './table-reporter.js';

export default definePlugin({
  name: 'table',
  version: '0.1.0',
  role: 'reporter',
  api: '^2',
  description: 'one table of the runs, the checks and a summary, for people',
  configSchema: Type.Object(
    {},
    {
      additionalProperties: false,
      title: 'reporter table',
      description: 'one table of the runs, the checks and a summary, for people',
    },
  ),
  register(scope) {
    scope.bindFactory(REPORTER, () => new TableReporter());
  },
});
