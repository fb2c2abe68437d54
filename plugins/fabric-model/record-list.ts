/** Records in order, in which equal ones in a row are counted instead of repeated. */
export class RecordList<T extends object> {
  readonly #runs: { key: string; record: T; count: number }[] = [];

  constructor(readonly withCount: (record: T, count: number) => T) {}

  get records(): T[] {
    return this.#runs.map(({ record, count }) => this.withCount(record, count));
  }

  add(record: T): void {
    const key = JSON.stringify(record);
    const last = this.#runs.at(-1);
    if (last?.key === key) last.count++;
    else this.#runs.push({ key, record, count: 1 });
  }
}
