#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { EXIT } from '../core/diagnostic.js';
import type { Interruptions } from './cli-context.js';
import { runCommandLine } from './command-line.js';
import { processTerminal } from './terminal.js';

// The young generation is collected by several threads otherwise, each waiting for the last. What a guest's program keeps the
// other cores busy with then delays what other guests ask for (docs/decisions/0014).
setFlagsFromString('--no-parallel-scavenge');

const interruption = new AbortController();
/** Whether somebody has something to take down or to show before the process may end. */
let isHeeded = false;
const onSignal = (): void => {
  // The first one asks for a clean end; whoever sends a second does not want to wait for it.
  if (!isHeeded || interruption.signal.aborted) process.exit(EXIT.INTERRUPTED);
  interruption.abort();
};
const interruptions: Interruptions = {
  listen() {
    if (process.listenerCount('SIGINT', onSignal) > 0) return;
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  },
  signal() {
    this.listen();
    isHeeded = true;
    return interruption.signal;
  },
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

const exitCode = await runCommandLine(process.argv.slice(2), terminal, interruptions);
finished = true;
process.exitCode = stalled ? EXIT.CHECK_FAILED : exitCode;
// A plugin may hold on to what keeps the process alive, a timer or stdin: that has no say after an interruption.
if (interruption.signal.aborted) process.stdout.write('', () => process.exit());
