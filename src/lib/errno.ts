/** A failed system call, with its code (`ENOENT`, …). */
export interface Errno extends Error {
  readonly code: string;
}

/** Tells failed system calls from other errors. */
export function isErrno(error: unknown): error is Errno {
  return error instanceof Error && 'code' in error && typeof error.code === 'string';
}

/**
 * Waits for a file operation; null when the file does not exist.
 *
 * @throws whatever else it throws
 */
export async function ifExists<T>(operation: Promise<T>): Promise<T | null> {
  try {
    return await operation;
  } catch (error) {
    if (isErrno(error) && error.code === 'ENOENT') return null;
    throw error;
  }
}
