#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { EXIT } from '../core/diagnostic.js';
import { runCommandLine } from './command-line.js';
import { processTerminal } from './terminal.js';

// The young generation is collected by several threads otherwise, each waiting for the last. What a guest's program keeps the
// other cores busy with then delays what other guests ask for (docs/decisions/0014).
setFlagsFromString('--no-parallel-scavenge');

const interruption = new AbortController();
const onSignal = (): void => {
  // The first one asks for a clean end; whoever sends a second does not want to wait for it.
  if (interruption.signal.aborted) process.exit(130);
  interruption.abort();
};
/** Work that does not give way, reading a hostile file say, could not hear of a signal that is listened to. */
const listen = (): AbortSignal => {
  if (process.listenerCount('SIGINT', onSignal) === 0) {
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  }
  return interruption.signal;
};

const terminal = processTerminal();
let finished = false;
let stalled = false;
process.on('beforeExit', () => {
  if (finished || stalled) return;
  // Nothing is under way any more, and still the command waits: a plugin awaits what never comes.
  stalled = true;
  terminal.err('xdpbed: nothing is left to wait for, but a plugin has not finished\n');
  interruption.abort();
});

const exitCode = await runCommandLine(process.argv.slice(2), terminal, listen);
finished = true;
process.exitCode = stalled ? EXIT.CHECK_FAILED : exitCode;
