import { printable } from '../core/printable.js';

/** Version of the lines: each has it as `schema`, so that a line makes sense on its own. */
export const EVENT_SCHEMA_VERSION = 'xdpbed.event/1';

/**
 * A record as one line of JSON, without a line feed. All that is not printable is escaped, so that this is one line whatever
 * it holds, for readers that break lines at U+0085 or U+2028 as well.
 */
export function eventLine(record: object): string {
  const json = JSON.stringify({ schema: EVENT_SCHEMA_VERSION, ...record }, (_key, value: unknown) =>
    // Plugins of others may put one into an event; a counter too big for a double must not end the stream.
    typeof value === 'bigint' ? value.toString() : value,
  );
  return printable(json);
}
