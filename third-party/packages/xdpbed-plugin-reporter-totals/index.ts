import { Type } from '@sinclair/typebox';
import {
  definePlugin,
  inject,
  injectable,
  REPORTER,
  token,
  type Reporter,
  type ResultDocument,
} from 'xdpbed';

/** A token of its own: a plugin's parts are injected as the core's are. */
const UNIT = token<string>('example.totals-unit');

/** A reporter written against the published package alone: one line for the whole result. */
@injectable()
export class Totals implements Reporter {
  readonly name = 'totals';

  constructor(@inject(UNIT) readonly unit: string) {}

  render(result: ResultDocument): string {
    const frames = result.runs.reduce((sum, run) => sum + run.framesSent, 0);
    const failed = new Set(result.failures?.map(({ run }) => run)).size;
    const trouble = failed === 0 ? '' : `, ${failed} with failures`;
    return `${result.testbed}: ${result.runs.length} runs, ${frames} ${this.unit}${trouble}\n`;
  }
}

export default definePlugin({
  name: 'totals',
  version: '1.0.0',
  role: 'reporter',
  api: '^2',
  description: 'one line for the whole result',
  configSchema: Type.Object(
    { unit: Type.String({ default: 'frames', description: 'what frames are called' }) },
    { additionalProperties: false },
  ),
  register(scope, config) {
    scope.bindValue(UNIT, config.unit);
    scope.bindClass(REPORTER, Totals);
  },
});
