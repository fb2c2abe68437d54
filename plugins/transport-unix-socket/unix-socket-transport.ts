import type { Socket } from 'node:net';
import { join } from 'node:path';
import { Type, type Static } from '@sinclair/typebox';
import { XdpbedError } from '../../src/core/diagnostic.js';
import type { ControlChannelOptions, Transport } from '../../src/core/contract/transport.js';
import { ControlSocketChannel } from '../../src/core/offload/control-socket-channel.js';
import { peerCredentials, peerCredentialsUnsupported } from '../../src/linux/peer-credentials.js';

export const UnixSocketConfig = Type.Object(
  {
    folder: Type.Optional(
      Type.String({
        pattern: '^/',
        description:
          'where the sockets are, `<guest>.<nic>.sock`; default: each in a folder of its own, mode 0700',
      }),
    ),
    users: Type.Array(Type.Integer({ minimum: 0, maximum: 0xffff_fffe }), {
      default: [],
      uniqueItems: true,
      description: 'uids whose drivers may connect, beside that of the device and root; needs `folder`',
    }),
    'stall-seconds': Type.Number({
      exclusiveMinimum: 0,
      maximum: 3600,
      default: 10,
      description:
        'how long a driver may take to greet, to finish a message that it has begun, or to take its answers',
    }),
  },
  { additionalProperties: false },
);
export type UnixSocketConfig = Static<typeof UnixSocketConfig>;

/**
 * Root gives the socket to the one user who is let in beside it: whoever is refused after connecting has taken a place in the
 * queue until then. Where there are more, the socket lets everybody in and the device asks who it is.
 */
function modeFor(users: readonly number[]): { readonly mode: number; readonly owner?: number } {
  const [first, ...more] = users;
  if (first === undefined) return { mode: 0o600 };
  const givesAway = process.getuid?.() === ROOT && more.length === 0;
  return givesAway ? { mode: 0o600, owner: first } : { mode: 0o666 };
}

/** Commands that the driver in this process has on its way at once. */
const WINDOW = 64;
const ROOT = 0;

/**
 * Role `transport` over a unix socket, for a driver in another process: ControlSocketClient connects to the channel's
 * address.
 *
 * Who may connect: the permissions of the socket and its folder say so, the kernel's word on who did (SO_PEERCRED) is
 * looked at beside them where it can be had, and alone where other users are let in.
 */
export class UnixSocketTransport implements Transport {
  readonly name = 'unix-socket';

  constructor(readonly config: UnixSocketConfig) {}

  async open({ label, folder }: ControlChannelOptions): Promise<ControlSocketChannel> {
    const { config } = this;
    const others = config.users.length > 0;
    const unsupported = peerCredentialsUnsupported();
    if (others && config.folder === undefined) {
      throw new XdpbedError(
        'host-unsupported',
        `${label}: other users cannot enter the folder of the socket`,
        {
          hint: 'name one in `folder`',
        },
      );
    }
    if (others && unsupported !== undefined) {
      throw new XdpbedError(
        'host-unsupported',
        `${label}: whose driver connects cannot be told: ${unsupported}`,
      );
    }
    const users = new Set([process.getuid?.() ?? ROOT, ROOT, ...config.users]);
    const admit = (socket: Socket): string | undefined => {
      const peer = peerCredentials(socket);
      if (peer === undefined) return others ? 'who you are cannot be told' : undefined;
      return users.has(peer.uid) ? undefined : `a driver of user ${peer.uid} is not let in`;
    };
    return ControlSocketChannel.open(
      { label, folder },
      {
        path: config.folder === undefined ? undefined : join(config.folder, `${label}.sock`),
        ...modeFor(config.users),
        admit: unsupported === undefined ? admit : undefined,
        stallMs: config['stall-seconds'] * 1000,
        window: WINDOW,
      },
    );
  }
}
