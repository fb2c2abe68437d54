import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { JsonReporter } from './json-reporter.js';

export default definePlugin({
  name: 'json',
  version: '0.1.0',
  role: 'reporter',
  api: '^2',
  description: 'the whole result as one JSON document (schemas/result.schema.json)',
  configSchema: Type.Object(
    {},
    {
      additionalProperties: false,
      title: 'reporter json',
      description: 'the whole result as one JSON document (schemas/result.schema.json)',
    },
  ),
  register(scope) {
    scope.bindFactory(REPORTER, () => new JsonReporter());
  },
});
