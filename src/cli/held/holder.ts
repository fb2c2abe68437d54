import { DEFAULT_VERIFICATION } from '../../core/contract/plan.js';
import { JUDGES } from '../../core/verification/judge-pool.js';
import type { HoldMessage } from './holder-messages.js';

/* The main module of the process that holds a run up: started by `xdpbed up`, which it outlives. */

const ending = new AbortController();
let isUp = false;
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => ending.abort());
// Who started it is gone and will never tell anybody of it.
process.on('disconnect', () => {
  if (!isUp) ending.abort();
});
// What there is to hold is not known yet, but what that is going to need is: a process starts while this one imports.
const { milliseconds, memoryMiB } = DEFAULT_VERIFICATION;
JUDGES.prepare({ milliseconds, memoryMiB });
const holding = import('./hold.js');
process.once('message', (message) => {
  void holding.then(({ hold }) => hold(message as HoldMessage, ending.signal, () => (isUp = true)));
});
if (!process.connected) process.exit();
