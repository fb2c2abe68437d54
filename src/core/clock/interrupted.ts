import { XdpbedError } from '../diagnostic.js';

/** What a verb ends with that was interrupted. @param what was under way: `program count was verified` */
export function interrupted(what: string): XdpbedError {
  return new XdpbedError('interrupted', `interrupted while ${what}`);
}

/**
 * What `work` gives, or a throw of `interrupted` as soon as the signal fires: for work that gives way to the event loop but does
 * not look at the signal. It is left under way, so the verb must end the process then.
 */
export async function unlessInterrupted<T>(
  signal: AbortSignal | undefined,
  what: string,
  work: Promise<T>,
): Promise<T> {
  if (signal === undefined) return work;
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(interrupted(what));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
