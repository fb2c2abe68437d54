import { closeSync, readdirSync, readFileSync } from 'node:fs';
import { errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import type { NicSettings } from '../linux/guest/agent-messages.js';
import type { FrameCounts } from './guest-agent.js';
import { libc } from '../linux/libc.js';

const AF_INET = 2;
const SOCK_DGRAM = 2;
/** include/uapi/linux/sockios.h, ethtool.h and if.h. */
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCSIFNAME = 0x8923;
const SIOCDARP = 0x8953;
const SIOCSARP = 0x8955;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GCHANNELS = 0x3c;
const ETHTOOL_SCHANNELS = 0x3d;
const IFF_UP = 1;
/** include/uapi/linux/if_arp.h */
const ARPHRD_ETHER = 1;
const ATF_COM = 2;
const ATF_PERM = 4;
const IFNAMSIZ = 16;

/** A network interface of this kernel's. */
interface GuestInterface {
  readonly name: string;
  readonly ifindex: number;
}

/** Gives a nic its name, its queues and the state up. Returns its ifindex, which has to be that of the plan. */
export function bringUpNic({ mac, ifindex, name, queues }: NicSettings): number {
  const found = interfaceOf(mac);
  if (found.ifindex !== ifindex) {
    // Programs know interfaces by number: with another one they would do something else than was planned.
    throw new XdpbedError(
      'guest-failed',
      `${found.name} has ifindex ${found.ifindex}, the plan says ${ifindex}`,
    );
  }
  const named = rename(found.name, name);
  if (queues !== undefined) setQueuePairs(named, queues);
  bringUp(named);
  return ifindex;
}

/** What is set of a nic's address, and who is its only neighbour. All dotted IPv4. */
export interface NicAddress {
  readonly address: string;
  readonly peer: string;
  readonly peerMac: string;
}

/**
 * Gives a nic an address in a network of two (RFC 3021), and tells the kernel where the other one is, so that nobody is
 * asked. What comes back takes both away.
 */
export function addressNic(
  { mac }: Pick<NicSettings, 'mac'>,
  { address, peer, peerMac }: NicAddress,
): () => void {
  const { name } = interfaceOf(mac);
  const neighbour = arpRequest(name, peer, peerMac);
  const remove = (): void => {
    control(SIOCDARP, neighbour);
    setAddress(name, SIOCSIFADDR, '0.0.0.0');
  };
  try {
    check(`the address of ${name}`, setAddress(name, SIOCSIFADDR, address));
    check(`the network of ${name}`, setAddress(name, SIOCSIFNETMASK, '255.255.255.254'));
    check(`the neighbour of ${name}`, control(SIOCSARP, neighbour));
    return remove;
  } catch (error) {
    remove();
    throw error;
  }
}

function setAddress(name: string, command: number, address: string): number {
  const request = requestFor(name);
  internetAddress(address).copy(request, IFNAMSIZ);
  return control(command, request);
}

/**
 * `struct arpreq`, 68 bytes: +0 protocol address, sockaddr · +16 hardware address, sockaddr · +32 flags i32 · +36 netmask
 * · +52 device char[16].
 */
function arpRequest(name: string, address: string, mac: string): Buffer {
  const request = Buffer.alloc(68);
  internetAddress(address).copy(request);
  request.writeUint16LE(ARPHRD_ETHER, 16);
  Buffer.from(mac.replaceAll(':', ''), 'hex').copy(request, 18, 0, 6);
  request.writeInt32LE(ATF_COM | ATF_PERM, 32);
  request.write(name, 52, IFNAMSIZ - 1, 'latin1');
  return request;
}

/** `struct sockaddr_in`: +0 family u16 · +2 port · +4 address, 16 bytes. */
function internetAddress(address: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUint16LE(AF_INET, 0);
  bytes.set(address.split('.').map(Number), 4);
  return bytes;
}

/** What the driver of a nic counted, by its ifindex. */
export function framesOf({ mac }: NicSettings): FrameCounts {
  const { name } = interfaceOf(mac);
  const count = (what: string): number =>
    Number(readFileSync(`/sys/class/net/${name}/statistics/${what}`, 'latin1'));
  return { received: count('rx_packets'), transmitted: count('tx_packets') };
}

/** The interface of a MAC address. Throws `guest-failed` when there is none. */
function interfaceOf(mac: string): GuestInterface {
  const folder = '/sys/class/net';
  const attribute = (name: string, what: string): string =>
    readFileSync(`${folder}/${name}/${what}`, 'utf8').trim();
  const name = readdirSync(folder).find((each) => attribute(each, 'address') === mac.toLowerCase());
  if (name === undefined) throw new XdpbedError('guest-failed', `no interface has the address ${mac}`);
  return { name, ifindex: Number(attribute(name, 'ifindex')) };
}

/** Gives an interface that is down another name, if that is one that the kernel takes. */
function rename(name: string, wanted: string): string {
  if (name === wanted || !/^[\w.-]{1,15}$/.test(wanted) || /^\.\.?$/.test(wanted)) return name;
  const request = requestFor(name);
  request.write(wanted, IFNAMSIZ, 'latin1');
  return control(SIOCSIFNAME, request) < 0 ? name : wanted;
}

function bringUp(name: string): void {
  const request = requestFor(name);
  check(`the flags of ${name}`, control(SIOCGIFFLAGS, request));
  request.writeUint16LE(request.readUint16LE(IFNAMSIZ) | IFF_UP, IFNAMSIZ);
  check(`bringing ${name} up`, control(SIOCSIFFLAGS, request));
}

/**
 * Has the driver use this many queue pairs (`struct ethtool_channels`: +0 cmd u32 · +16 max_combined u32
 * · +32 combined_count u32).
 */
function setQueuePairs(name: string, pairs: number): void {
  const channels = Buffer.alloc(36);
  const ask = (command: number): number => {
    channels.writeUint32LE(command, 0);
    const request = requestFor(name);
    request.writeBigUint64LE(libc().address(channels), IFNAMSIZ);
    return control(SIOCETHTOOL, request);
  };
  check(`the queues of ${name}`, ask(ETHTOOL_GCHANNELS));
  if (channels.readUint32LE(32) === pairs) return;
  channels.writeUint32LE(pairs, 32);
  check(`${pairs} queue pairs of ${name}, which has ${channels.readUint32LE(16)}`, ask(ETHTOOL_SCHANNELS));
}

/** `struct ifreq`, 40 bytes: +0 name char[16] · +16 what it is about. */
function requestFor(name: string): Buffer {
  const request = Buffer.alloc(40);
  request.write(name, 0, IFNAMSIZ - 1, 'latin1');
  return request;
}

function control(command: number, request: Buffer): number {
  const fd = libc().socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) return fd;
  try {
    return libc().ioctl(fd, command, request);
  } finally {
    closeSync(fd);
  }
}

function check(what: string, result: number): void {
  if (result < 0) throw new XdpbedError('guest-failed', `${what}: ${errnoName(result)}`);
}
