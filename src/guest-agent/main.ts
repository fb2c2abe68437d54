import { existsSync } from 'node:fs';
import { XdpbedError } from '../core/diagnostic.js';
import { AGENT_PORT, controlPort } from '../linux/guest/agent-messages.js';
import { libc } from '../linux/libc.js';
import { GuestAgent } from './guest-agent.js';
import { serveExchange } from './guest-exchange.js';
import { bringUpNic, framesOf } from './guest-interfaces.js';
import { kernelParty } from './guest-party.js';
import { loadModules, mountFileSystems, silenceStack } from './guest-system.js';
import { NativeXdpPlace } from './native-xdp-place.js';
import { SerialPort } from './serial-port.js';

/** Where the image has them (guest-image.ts). */
const MODULES = '/xdpbed/modules';

/**
 * The first process of a guest, and its only one. It ends the guest when the host is gone or something goes wrong that
 * is nobody's answer; what that was stands on the console.
 */
async function main(): Promise<void> {
  mountFileSystems();
  silenceStack();
  loadModules(MODULES);
  const port = await SerialPort.open(AGENT_PORT);
  const agent = new GuestAgent(port, {
    party: kernelParty(),
    bringUp: async (nic) => new NativeXdpPlace(bringUpNic(nic)),
    frames: framesOf,
    serveExchange,
    openControl: (nic) => SerialPort.open(controlPort(nic)),
  });
  await agent.run();
}

// It would switch off the machine that it is started on by mistake.
if (process.pid !== 1 || !existsSync(MODULES)) {
  throw new XdpbedError('host-unsupported', 'this is the first process of a guest, and of nothing else');
}
// No top-level await: the bundle is CommonJS, which Node starts sooner than a module.
void main()
  .catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  })
  .then(() => libc().powerOff());
