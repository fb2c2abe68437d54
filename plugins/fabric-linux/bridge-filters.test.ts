import { describe, expect, it } from 'vitest';
import { filterOfLinks } from './bridge-filters.js';

/** As iproute2 6.1 prints them, but for what nobody looks at. */
const bridge = (more: object = {}, settings: object = {}) => ({
  ifname: 'br0',
  linkinfo: { info_kind: 'bridge', info_data: { vlan_filtering: 0, nf_call_iptables: 0, ...settings } },
  ...more,
});
const port = (settings: object = {}) => ({
  ifname: 'eth0',
  master: 'br0',
  linkinfo: {
    info_slave_kind: 'bridge',
    info_slave_data: { state: 'forwarding', isolated: false, ...settings },
  },
});

describe('filterOfLinks', () => {
  it('finds nothing where a bridge only forwards', () => {
    const other = { ifname: 'br1', linkinfo: { info_data: { vlan_filtering: 1 } } };
    expect(filterOfLinks('br0', [bridge(), port(), other])).toBeUndefined();
  });

  it.each([
    ['no such bridge', [port()], 'nothing is known of it'],
    ['no settings', [{ ifname: 'br0' }], 'nothing is known of it'],
    ['a setting that is missing', [bridge({}, { vlan_filtering: undefined })], 'it filters VLANs'],
    ['VLANs', [bridge({}, { vlan_filtering: 1 })], 'it filters VLANs'],
    ['netfilter', [bridge({}, { nf_call_arptables: 1 })], 'it has arptables look at its frames'],
    ['a bridge in a bond', [bridge({ master: 'bond0' })], 'it is a port of bond0'],
    [
      'a port of which nothing is said',
      [bridge(), { ifname: 'x', master: 'br0' }],
      'nothing is known of its port x',
    ],
    ['a port that learns', [bridge(), port({ state: 'learning' })], 'its port eth0 is learning'],
    ['isolation', [bridge(), port({ isolated: true })], 'its port eth0 is isolated from others'],
    ['a locked port', [bridge(), port({ locked: true })], 'its port eth0 is locked to known addresses'],
    ['ARP', [bridge(), port({ proxy_arp: true })], 'its port eth0 has the bridge answer for neighbours'],
  ])('names %s', (_, links, reason) => {
    expect(filterOfLinks('br0', links)).toBe(reason);
  });
});
