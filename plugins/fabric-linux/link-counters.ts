import { showIp } from '../../src/linux/index.js';

/** What the kernel counts of an interface. */
export interface LinkCounters {
  /** Frames that came in. */
  readonly received: number;
  /** Frames that went out; of a tap, that its reader took. */
  readonly transmitted: number;
  /** Frames that had no room in a queue. */
  readonly transmitDropped: number;
}

export const NO_FRAMES: LinkCounters = { received: 0, transmitted: 0, transmitDropped: 0 };

/** Of all interfaces of a namespace, by name. */
export async function readLinkCounters(namespace: string): Promise<Map<string, LinkCounters>> {
  const links = (await showIp(['-s', 'link', 'show'], { namespace })) as {
    ifname: string;
    stats64?: { rx: { packets: number }; tx: { packets: number; dropped: number } };
  }[];
  return new Map(
    links.map(({ ifname, stats64 }) => [
      ifname,
      {
        received: stats64?.rx.packets ?? 0,
        transmitted: stats64?.tx.packets ?? 0,
        transmitDropped: stats64?.tx.dropped ?? 0,
      },
    ]),
  );
}
