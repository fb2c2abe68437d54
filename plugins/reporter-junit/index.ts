import { Type } from '@sinclair/typebox';
import { definePlugin } from '../../src/core/contract/plugin.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { JunitReporter } from './junit-reporter.js';

export default definePlugin({
  name: 'junit',
  version: '0.1.0',
  role: 'reporter',
  api: '^2',
  description: 'JUnit XML for CI: a test case for each check and each run',
  configSchema: Type.Object(
    {},
    {
      additionalProperties: false,
      title: 'reporter junit',
      description: 'JUnit XML for CI: a test case for each check and each run',
    },
  ),
  register(scope) {
    scope.bindFactory(REPORTER, () => new JunitReporter());
  },
});
