import type { Clock } from '../contract/clock.js';
import type { Events, RunEvent, TimedEvent } from '../contract/event.js';

/** Gives the events of one run their number and their time. */
export class EventStream implements Events {
  #seq = 0;

  constructor(
    readonly clock: Clock,
    readonly sink: (event: TimedEvent) => void,
  ) {}

  emit(event: RunEvent): void {
    this.sink({ ...event, seq: this.#seq++, time: this.clock.now() });
  }
}
