import type { TestCase } from '../program-test/test-case.js';
import type { SentPacket } from './sent-packet.js';

/** The packets that a case sends, with what it places in maps before; what it expects is left out. */
export function caseSequence({ elements, steps }: TestCase): SentPacket[] {
  const packets: SentPacket[] = [];
  // What the case begins with is there before the first packet of its first step.
  const before = new Map(elements);
  for (const step of steps) {
    for (const [name, each] of step.elements) before.set(name, [...(before.get(name) ?? []), ...each]);
    for (const { bytes, now } of step.packets) {
      for (let i = 0; i < step.repeat; i++) {
        packets.push({
          data: bytes,
          input: { ...step.input, now: step.input.now ?? now },
          ...(before.size > 0 ? { elements: new Map(before) } : {}),
        });
        before.clear();
      }
    }
  }
  return packets;
}
