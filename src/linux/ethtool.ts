import { closeSync } from 'node:fs';
import { errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SIOCETHTOOL = 0x8946;
/** include/uapi/linux/ethtool.h */
const ETHTOOL_GSTRINGS = 0x1b;
const ETHTOOL_GSTATS = 0x1d;
const ETHTOOL_STXCSUM = 0x17;
const ETHTOOL_SGRO = 0x2c;
const ETHTOOL_GSSET_INFO = 0x37;
const ETH_SS_STATS = 1;
const ETH_GSTRING_LEN = 32;
/** `struct ifreq`: +0 name char[16] · +16 data u64 (pointer), 40 bytes in all. */
const IFREQ_SIZE = 40;
const IFREQ_DATA = 16;

/**
 * The driver's own counters of an interface (ethtool -S) by name, in a namespace. Throws `host-unsupported` where there are
 * none.
 */
export function driverStatistics(name: string, namespace: NetworkNamespace): Map<string, number> {
  return withSocket(namespace, (fd) => {
    // struct ethtool_sset_info: +0 cmd u32 · +8 sset_mask u64 · +16 data u32[]
    const info = new Uint8Array(20);
    const infoView = new DataView(info.buffer);
    infoView.setUint32(0, ETHTOOL_GSSET_INFO, true);
    infoView.setBigUint64(8, 1n << BigInt(ETH_SS_STATS), true);
    request(fd, name, info);
    const count = infoView.getUint32(16, true);

    // struct ethtool_gstrings: +0 cmd u32 · +4 string_set u32 · +8 len u32 · +12 data
    const strings = new Uint8Array(12 + count * ETH_GSTRING_LEN);
    const stringsView = new DataView(strings.buffer);
    stringsView.setUint32(0, ETHTOOL_GSTRINGS, true);
    stringsView.setUint32(4, ETH_SS_STATS, true);
    stringsView.setUint32(8, count, true);
    request(fd, name, strings);

    // struct ethtool_stats: +0 cmd u32 · +4 n_stats u32 · +8 data u64[]
    const values = new Uint8Array(8 + count * 8);
    const valuesView = new DataView(values.buffer);
    valuesView.setUint32(0, ETHTOOL_GSTATS, true);
    valuesView.setUint32(4, count, true);
    request(fd, name, values);

    const found = new Map<string, number>();
    for (let index = 0; index < count; index++) {
      const at = 12 + index * ETH_GSTRING_LEN;
      const bytes = strings.subarray(at, at + ETH_GSTRING_LEN);
      const end = bytes.indexOf(0);
      const key = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
      found.set(key, Number(valuesView.getBigUint64(8 + index * 8, true)));
    }
    return found;
  });
}

/**
 * Generic receive offload on or off (ethtool -K … gro). A veth interface without an XDP program polls only with it, and
 * without polling takes no redirected XDP frames (drivers/net/veth.c, veth_xdp_xmit).
 */
export function setReceiveOffload(name: string, on: boolean, namespace: NetworkNamespace): void {
  setValue(name, ETHTOOL_SGRO, on, namespace);
}

/**
 * Checksums of what is sent left to the interface, or not (ethtool -K … tx). Without, the stack makes them, and segments
 * of TCP, so that frames are as they would be on a wire.
 */
export function setTransmitOffload(name: string, on: boolean, namespace: NetworkNamespace): void {
  setValue(name, ETHTOOL_STXCSUM, on, namespace);
}

function setValue(name: string, command: number, on: boolean, namespace: NetworkNamespace): void {
  withSocket(namespace, (fd) => {
    // struct ethtool_value: +0 cmd u32 · +4 data u32
    const value = new Uint8Array(8);
    const view = new DataView(value.buffer);
    view.setUint32(0, command, true);
    view.setUint32(4, on ? 1 : 0, true);
    request(fd, name, value);
  });
}

function withSocket<T>(namespace: NetworkNamespace, work: (fd: number) => T): T {
  const fd = namespace.run(() => libc().socket(AF_INET, SOCK_DGRAM, 0));
  if (fd < 0) throw new XdpbedError('host-unsupported', `a socket cannot be made: ${errnoName(fd)}`);
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

function request(fd: number, name: string, command: Uint8Array): void {
  const ifreq = new Uint8Array(IFREQ_SIZE);
  ifreq.set(new TextEncoder().encode(name).subarray(0, IFREQ_DATA - 1));
  new DataView(ifreq.buffer).setBigUint64(IFREQ_DATA, libc().address(command), true);
  const result = libc().ioctl(fd, SIOCETHTOOL, ifreq);
  if (result < 0) {
    throw new XdpbedError(
      'host-unsupported',
      `interface ${name} tells nothing to ethtool: ${errnoName(result)}`,
    );
  }
}
