/** Packets: header codecs, frames built and taken apart, capture files. Pure: no I/O, no state. */

export * from './capture-bytes.js';
export * from './capture.js';
export * from './captured-packet.js';
export * from './checksum.js';
export * from './constant-rate.js';
export * from './dissect.js';
export * from './ethernet.js';
export * from './flow-hash.js';
export * from './frame-builder.js';
export * from './ipv4.js';
export * from './ipv6.js';
export * from './mac-address.js';
export * from './pcap.js';
export * from './pcapng.js';
export * from './plain-frames.js';
export * from './tcp.js';
export * from './udp.js';
export * from './vlan.js';
