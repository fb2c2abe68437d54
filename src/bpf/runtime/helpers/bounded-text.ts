/** Text of which no more is built than is kept: `length` counts on, as snprintf does (lib/vsprintf.c). */
export class BoundedText {
  /** The first `limit` characters. */
  text = '';
  /** Characters that the whole text would have. */
  length = 0;

  constructor(readonly limit: number) {}

  append(text: string): void {
    const room = this.limit - this.text.length;
    if (room > 0) this.text += text.length > room ? text.slice(0, room) : text;
    this.length += text.length;
  }

  /** `char`, `count` times; none if `count` is negative. */
  repeat(char: string, count: number): void {
    if (count <= 0) return;
    const room = this.limit - this.text.length;
    if (room > 0) this.text += char.repeat(Math.min(count, room));
    this.length += count;
  }
}
