import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { showIp, type NetworkNamespace } from '../../src/linux/index.js';

/** As `ip -details -json link show` prints them, as far as they are looked at. */
interface Link {
  readonly ifname: string;
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_data?: Readonly<Record<string, unknown>>;
    readonly info_slave_kind?: string;
    readonly info_slave_data?: Readonly<Record<string, unknown>>;
  };
}

const NF_CALLS = ['iptables', 'ip6tables', 'arptables'];
/** Flags of a port by which a bridge drops frames, or answers them itself. */
const PORT_FLAGS: Readonly<Record<string, string>> = {
  isolated: 'is isolated from others',
  locked: 'is locked to known addresses',
  neigh_suppress: 'has the bridge answer for neighbours',
  proxy_arp: 'has the bridge answer for neighbours',
  proxy_arp_wifi: 'has the bridge answer for neighbours',
  vlan_tunnel: 'maps VLANs to tunnels',
};
const TOOL_MS = 5000;

/**
 * Throws `host-unsupported` with the reason where a bridge may drop or change what goes through it other than by its
 * forwarding database: who sends frames past it would get past that.
 */
export async function requireNoFilters(bridge: string, namespace: NetworkNamespace): Promise<void> {
  const links = (await showIp(['-details', 'link', 'show'], { namespace: namespace.name })) as Link[];
  const reason =
    filterOfLinks(bridge, links) ?? filterOfSettings(namespace) ?? (await filterOfRules(namespace.name));
  if (reason === undefined) return;
  throw new XdpbedError('host-unsupported', `hook bridge-early would go past bridge ${bridge}: ${reason}`, {
    hint: 'hook tcx-egress is behind the bridge',
  });
}

/** One sentence without a capital and a full stop; undefined where there is nothing. */
export function filterOfLinks(bridge: string, links: readonly Link[]): string | undefined {
  const own = links.find(({ ifname }) => ifname === bridge);
  const settings = own?.linkinfo?.info_data;
  if (own === undefined || settings === undefined) return 'nothing is known of it';
  if (settings.vlan_filtering !== 0) return 'it filters VLANs';
  const call = NF_CALLS.find((name) => settings[`nf_call_${name}`] === 1);
  if (call !== undefined) return `it has ${call} look at its frames`;
  if (own.master !== undefined) return `it is a port of ${own.master}`;
  for (const { ifname, master, linkinfo } of links) {
    if (master !== bridge) continue;
    const port = linkinfo?.info_slave_data;
    if (port === undefined) return `nothing is known of its port ${ifname}`;
    if (port.state !== 'forwarding') return `its port ${ifname} is ${String(port.state)}`;
    const flag = Object.keys(PORT_FLAGS).find((name) => port[name] === true);
    if (flag !== undefined) return `its port ${ifname} ${PORT_FLAGS[flag]}`;
  }
  return undefined;
}

/** Of br_netfilter, for all bridges of the namespace. */
function filterOfSettings(namespace: NetworkNamespace): string | undefined {
  return namespace.run(() => {
    const set = NF_CALLS.find((name) => {
      try {
        return readFileSync(`/proc/sys/net/bridge/bridge-nf-call-${name}`, 'latin1').trim() !== '0';
      } catch {
        // A kernel without br_netfilter.
        return false;
      }
    });
    return set && `bridge-nf-call-${set} is on`;
  });
}

/** Tables of family bridge, where nft(8) is there to list them; ebtables in its present form makes such, too. */
async function filterOfRules(namespace: string): Promise<string | undefined> {
  const command = ['netns', 'exec', namespace, 'nft', 'list', 'tables', 'bridge'];
  const { out, err, failed } = await new Promise<{ out: string; err: string; failed: boolean }>((resolve) => {
    execFile('ip', command, { timeout: TOOL_MS }, (error, out, err) =>
      resolve({ out, err: err.trim() || (error?.message ?? ''), failed: error !== null }),
    );
  });
  if (!failed) {
    const table = /^table bridge (\S+)/m.exec(out)?.[1];
    return table && `table ${table} of nftables has its frames`;
  }
  // No such tool, or a kernel without nftables: then there are none.
  if (/exec of "nft" failed|not supported/i.test(err)) return undefined;
  return `nft cannot say whether there are rules for it: ${err.split('\n')[0]}`;
}
