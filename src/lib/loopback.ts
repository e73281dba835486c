/** Whether a URL's hostname is of this machine itself, where plain http can't be read by others. */
export function isLoopback(hostname: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
