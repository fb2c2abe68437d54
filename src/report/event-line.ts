/** Version of the lines: each has it as `schema`, so that a line makes sense on its own. */
export const EVENT_SCHEMA_VERSION = 'xdpbed.event/1';

/**
 * A record as one line of JSON, without a line feed. JSON escapes every line feed in a string, so that this is one
 * line whatever it holds.
 */
export function eventLine(record: object): string {
  return JSON.stringify({ schema: EVENT_SCHEMA_VERSION, ...record }, (_key, value: unknown) =>
    // Plugins of others may put one into an event; a counter too big for a double must not end the stream.
    typeof value === 'bigint' ? value.toString() : value,
  );
}
