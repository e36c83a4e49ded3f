/* Tells, in order, what a process writes to the files of one folder, and when it waits for the disk.
 *
 * Loaded with LD_PRELOAD. A line of the trace: one letter, length of the path, offset, length of the data,
 * then path and data. W: written, T: cut to a length, S: on the disk from here on, U: unlinked, R: renamed
 * (the data is the new name). One lock around each call and its line: the trace has their true order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("POWER_TRACE");
  folder = getenv("POWER_FOLDER");
  if (path && folder) trace = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ours(int fd, char *path, size_t size) {
  char link[64];
  if (trace < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, size - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return strncmp(path, folder, strlen(folder)) == 0;
}

static void put(const void *data, size_t size) {
  while (size) {
    long n = syscall(SYS_write, trace, data, size);
    if (n <= 0) abort();
    data = (const char *)data + n;
    size -= (size_t)n;
  }
}

static void tell(char what, const char *path, uint64_t offset, const void *data, uint32_t size) {
  uint16_t length = (uint16_t)strlen(path);
  char head[15];
  head[0] = what;
  memcpy(head + 1, &length, 2);
  memcpy(head + 3, &offset, 8);
  memcpy(head + 11, &size, 4);
  put(head, sizeof head);
  put(path, length);
  if (size) put(data, size);
}

#define REAL(name, type) static type real; if (!real) real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*pwrite_t)(int, const void *, size_t, off64_t);
static ssize_t any_pwrite(pwrite_t real, int fd, const void *data, size_t size, off64_t offset) {
  char path[4096];
  if (!ours(fd, path, sizeof path)) return real(fd, data, size, offset);
  pthread_mutex_lock(&lock);
  ssize_t n = real(fd, data, size, offset);
  if (n > 0) tell('W', path, (uint64_t)offset, data, (uint32_t)n);
  pthread_mutex_unlock(&lock);
  return n;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
  REAL("pwrite", pwrite_t);
  return any_pwrite(real, fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  REAL("pwrite64", pwrite_t);
  return any_pwrite(real, fd, data, size, offset);
}

typedef ssize_t (*write_t)(int, const void *, size_t);
ssize_t write(int fd, const void *data, size_t size) {
  REAL("write", write_t);
  char path[4096];
  if (!ours(fd, path, sizeof path)) return real(fd, data, size);
  pthread_mutex_lock(&lock);
  off64_t at = lseek64(fd, 0, SEEK_CUR);
  ssize_t n = real(fd, data, size);
  if (n > 0 && at >= 0) tell('W', path, (uint64_t)at, data, (uint32_t)n);
  pthread_mutex_unlock(&lock);
  return n;
}

typedef int (*truncate_t)(int, off64_t);
static int any_ftruncate(truncate_t real, int fd, off64_t size) {
  char path[4096];
  if (!ours(fd, path, sizeof path)) return real(fd, size);
  pthread_mutex_lock(&lock);
  int done = real(fd, size);
  if (done == 0) tell('T', path, (uint64_t)size, 0, 0);
  pthread_mutex_unlock(&lock);
  return done;
}
int ftruncate(int fd, off_t size) {
  REAL("ftruncate", truncate_t);
  return any_ftruncate(real, fd, size);
}
int ftruncate64(int fd, off64_t size) {
  REAL("ftruncate64", truncate_t);
  return any_ftruncate(real, fd, size);
}

typedef int (*sync_t)(int);
static int any_sync(int fd) {
  char path[4096];
  /* The disk is not really waited for: the trace says what it would have kept. */
  if (!ours(fd, path, sizeof path)) return (int)syscall(SYS_fsync, fd);
  pthread_mutex_lock(&lock);
  tell('S', path, 0, 0, 0);
  pthread_mutex_unlock(&lock);
  return 0;
}
int fsync(int fd) { return any_sync(fd); }
int fdatasync(int fd) { return any_sync(fd); }

typedef int (*unlink_t)(const char *);
int unlink(const char *name) {
  REAL("unlink", unlink_t);
  if (trace < 0 || strncmp(name, folder, strlen(folder))) return real(name);
  pthread_mutex_lock(&lock);
  int done = real(name);
  if (done == 0) tell('U', name, 0, 0, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

typedef int (*rename_t)(const char *, const char *);
int rename(const char *from, const char *to) {
  REAL("rename", rename_t);
  if (trace < 0 || strncmp(from, folder, strlen(folder))) return real(from, to);
  pthread_mutex_lock(&lock);
  int done = real(from, to);
  if (done == 0) tell('R', from, 0, to, (uint32_t)strlen(to));
  pthread_mutex_unlock(&lock);
  return done;
}
