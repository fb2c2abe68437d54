/**
 * File descriptors of the programs that this process has loaded, by the kernel's id. A PROG_ARRAY or DEVMAP of the
 * kernel takes a program by file descriptor, and only one that is in here gets into a map: a number from elsewhere
 * would name whatever this process, or another, happens to have.
 */
const fds = new Map<number, number>();

export function registerProgram(id: number, fd: number): void {
  fds.set(id, fd);
}

/** The second and later calls do nothing. */
export function forgetProgram(id: number, fd: number): void {
  if (fds.get(id) === fd) fds.delete(id);
}

/** Undefined for an id that no program of this process has. */
export function programFd(id: number): number | undefined {
  return fds.get(id);
}
