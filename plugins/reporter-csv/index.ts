import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { CsvReporter } from './csv-reporter.js';

export default definePlugin({
  name: 'csv',
  version: '0.1.0',
  role: 'reporter',
  api: '^2',
  description: 'one row of counters for each run, for spreadsheets and data frames',
  configSchema: Type.Object(
    {},
    {
      additionalProperties: false,
      title: 'reporter csv',
      description: 'one row of counters for each run, for spreadsheets and data frames',
    },
  ),
  register(scope) {
    scope.bindFactory(REPORTER, () => new CsvReporter());
  },
});
