import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { exampleResult, exampleResults, reporterConformance } from '../../src/conformance/reporter/index.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import { ResultDocument } from '../../src/core/contract/result.js';
import { Scope } from '../../src/core/plugin/scope.js';
import plugin from './index.js';
import { JsonReporter } from './json-reporter.js';

reporterConformance('json', () => new JsonReporter());

describe('json', () => {
  it('is what the plugin binds', () => {
    const scope = new Scope('test');
    void plugin.register(scope, {});
    expect(scope.resolve(REPORTER)).toBeInstanceOf(JsonReporter);
  });

  it.each(Object.keys(exampleResults()))('gives the whole result, valid against its schema: %s', (what) => {
    const result = exampleResults()[what]!;
    const parsed: unknown = JSON.parse(new JsonReporter().render(result));
    const validate = new Ajv({ strict: false }).compile(ResultDocument);
    expect(validate(parsed), JSON.stringify(validate.errors)).toBe(true);
    expect(parsed).toEqual(result);
  });

  it('is indented by two', () => {
    expect(new JsonReporter().render(exampleResult([], [])).split('\n').slice(0, 3)).toEqual([
      '{',
      '  "schema": "xdpbed.result/1",',
      '  "xdpbed": "0.1.0",',
    ]);
  });
});
