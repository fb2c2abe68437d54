import { parentPort, workerData } from 'node:worker_threads';
import { PluginRegistry } from '../../core/plugin/plugin-registry.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { testOneFile, type FileTests } from './test-one-file.js';
import type { ToTestThread } from './test-threads.js';

/* The main module of a thread that tests files for `prog test`, one after the other. */

const tests = workerData as FileTests;
const registry = new PluginRegistry(BUILT_IN_PLUGINS);
const interruption = new AbortController();

parentPort!.on('message', (message: ToTestThread) => {
  if (message === 'interrupted') return interruption.abort();
  // What it throws ends the thread, and is the other's to tell.
  void testOneFile(registry, message.file, tests, interruption.signal).then((outcome) =>
    parentPort!.postMessage(outcome),
  );
});
