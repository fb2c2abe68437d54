import type { ControlChannelOptions, Transport } from '../../src/core/contract/transport.js';
import { ControlSocketChannel } from '../../src/core/offload/control-socket-channel.js';

/**
 * Role `transport` over a virtio-serial port of a guest: QEMU connects the channel's socket to it
 * (`-chardev socket,path=…,server=off`), or a test does in its stead. A guest may take its time to boot and may be stopped
 * for a while, so nobody is hung up on for being slow.
 */
export class VirtioSerialTransport implements Transport {
  readonly name = 'virtio-serial';

  open(options: ControlChannelOptions): Promise<ControlSocketChannel> {
    return ControlSocketChannel.open(options);
  }
}
