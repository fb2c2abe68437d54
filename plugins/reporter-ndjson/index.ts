import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { NdjsonReporter } from './ndjson-reporter.js';

export default definePlugin({
  name: 'ndjson',
  version: '0.1.0',
  role: 'reporter',
  api: '^2',
  description: 'one JSON object per line: each event as it happens, then a summary',
  configSchema: Type.Object(
    {},
    {
      additionalProperties: false,
      title: 'reporter ndjson',
      description: 'one JSON object per line: each event as it happens, then a summary',
    },
  ),
  register(scope) {
    scope.bindFactory(REPORTER, () => new NdjsonReporter());
  },
});
