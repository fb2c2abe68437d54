/** Where there is none: a tag itself may be undefined. */
const NO_TAG = Symbol('no tag');

/** The tags of the frames in a queue, by the token of the buffer that carries the frame (a frame's first, of several). */
export class FrameTags<Tag> {
  readonly #tags: (Tag | typeof NO_TAG)[];
  #size = 0;

  constructor(
    /** Of the queue: tokens are below. */
    tokens: number,
    entries: Iterable<readonly [token: number, tag: Tag]> = [],
  ) {
    this.#tags = new Array<Tag | typeof NO_TAG>(tokens).fill(NO_TAG);
    for (const [token, tag] of entries) this.put(token, tag);
  }

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  /** Whether there was one already, which then is no more. */
  put(token: number, tag: Tag): boolean {
    const replaced = this.#tags[token] !== NO_TAG;
    if (!replaced) this.#size++;
    this.#tags[token] = tag;
    return replaced;
  }

  /** The tag, which is no more; undefined when there was none. */
  take(token: number): Tag | undefined {
    const tag = this.#tags[token]!;
    if (tag === NO_TAG) return undefined;
    this.#tags[token] = NO_TAG;
    this.#size--;
    return tag;
  }

  clear(): void {
    this.#tags.fill(NO_TAG);
    this.#size = 0;
  }

  /** In the order of the tokens. */
  entries(): (readonly [token: number, tag: Tag])[] {
    return this.#tags.flatMap((tag, token) => (tag === NO_TAG ? [] : [[token, tag] as const]));
  }
}
