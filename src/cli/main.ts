#!/usr/bin/env node
import 'reflect-metadata';
import { runCommandLine } from './command-line.js';
import { processTerminal } from './terminal.js';

const interruption = new AbortController();
const onSignal = (): void => {
  // The first one asks for a clean end; whoever sends a second does not want to wait for it.
  if (interruption.signal.aborted) process.exit(130);
  interruption.abort();
};
process.on('SIGINT', onSignal);
process.on('SIGTERM', onSignal);

process.exitCode = await runCommandLine(process.argv.slice(2), processTerminal(), interruption.signal);
