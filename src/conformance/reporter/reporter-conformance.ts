import { describe, expect, it } from 'vitest';
import type { Reporter } from '../../core/contract/reporter.js';
import type { ResultDocument } from '../../core/contract/result.js';
import {
  exampleEvents,
  exampleResults,
  failedResult,
  HOSTILE_TEXT,
  interruptedResult,
} from './result-documents.js';

/** But tabs and line feeds: Unicode's control and format characters, and the separators of lines and paragraphs. */
const NOT_FOR_A_TERMINAL = /(?![\t\n])[\p{Cc}\p{Cf}\u2028\u2029]/u;

/**
 * What every reporter must do, as tests: it renders whatever a run can yield, the same bytes each time, without
 * terminal colours unless they are asked for, and without touching the result. `make` makes a new instance.
 */
export function reporterConformance(name: string, make: () => Reporter): void {
  describe(`reporter ${name} conforms`, () => {
    it('has a name', () => {
      expect(make().name).not.toBe('');
    });

    for (const [what, result] of Object.entries(exampleResults())) {
      describe(what, () => {
        for (const color of [false, true]) {
          it(`is the same text each time, ${color ? 'with' : 'without'} colours`, () => {
            const reporter = make();
            const text = reporter.render(result, { color });
            expect(reporter.render(result, { color })).toBe(text);
            expect(make().render(structuredClone(result), { color })).toBe(text);
          });
        }

        it('ends with a newline, unless it is empty', () => {
          expect(make().render(result, { color: false })).toMatch(/^$|\n$/);
        });

        it('is free of escape sequences without colours', () => {
          expect(make().render(result, { color: false })).not.toContain('\u001b');
        });

        it('lets nothing through that commands a terminal, turns the direction of writing or breaks a line unseen', () => {
          const reporter = make();
          const lines = exampleEvents(result).map((event) => reporter.onEvent?.(event) ?? '');
          const words = { color: false, words: () => ({ key: HOSTILE_TEXT, value: HOSTILE_TEXT }) };
          const texts = [reporter.render(result, { color: false }), make().render(result, words)];
          for (const text of [...lines, ...texts]) {
            // CR LF is how some formats end a line.
            expect(text.replaceAll('\r\n', '\n')).not.toMatch(NOT_FOR_A_TERMINAL);
          }
        });

        it('does not change the result', () => {
          const given = structuredClone(result);
          const reporter = make();
          for (const event of exampleEvents(given)) reporter.onEvent?.(event);
          reporter.render(given, { color: true });
          expect(given).toEqual(result);
        });

        it('gives at most one line for an event, the same each time', () => {
          const linesOf = (reporter: Reporter) =>
            exampleEvents(result).map((event) => reporter.onEvent?.(event));
          const lines = linesOf(make());
          expect(linesOf(make())).toEqual(lines);
          for (const line of lines) {
            for (const forbidden of ['\n', '\r', '\u001b']) expect(line ?? '').not.toContain(forbidden);
          }
        });

        it('renders the result whether or not it was told of the events', () => {
          const told = make();
          for (const event of exampleEvents(result)) told.onEvent?.(event);
          expect(told.render(result, { color: false })).toBe(make().render(result, { color: false }));
        });
      });
    }

    const told = (result: ResultDocument): string => {
      const reporter = make();
      const lines = exampleEvents(result).map((event) => reporter.onEvent?.(event) ?? '');
      return lines.join('\n') + reporter.render(result, { color: false });
    };

    it('shows that a run failed', () => {
      const failed = failedResult();
      const { failures: _, notStarted: __, ...rest } = failed;
      expect(told(failed)).not.toBe(told(rest));
    });

    it('shows that a run was interrupted', () => {
      const stopped = interruptedResult();
      const { interrupted: _, ...rest } = stopped;
      expect(told(stopped)).not.toBe(told(rest));
    });

    it('renders different results differently', () => {
      const { 'one run': one, 'failed checks': failed } = exampleResults();
      const texts = new Set([one!, failed!].map((result) => make().render(result, { color: false })));
      // A reporter may leave checks out; then the number of runs must tell results apart.
      texts.add(make().render(exampleResults()['eight runs']!, { color: false }));
      expect(texts.size).toBeGreaterThanOrEqual(2);
    });
  });
}
