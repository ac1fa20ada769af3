/* Lets the n-th system call on files below a folder fail: LD_PRELOAD, and fault_arm from Python.
 *
 * Calls that take a path count if the path is below the folder, those that take a descriptor if its
 * file is. What fails has no effect, but close, which closes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <dirent.h>
#include <unistd.h>

static char folder[PATH_MAX];
static int fault_errno, fault_stays;
/* Copies of the process share these: what fails in one of them fails in no other. */
static struct {
   long next_fault; /* How many calls until one fails; less than 0: none. */
   char failed[64];
} *shared;

/* From now on the n-th call (from 0) fails, or with `stays` each one from that on that needs space. */
void fault_arm(const char *below, long n, int number, int stays)
{
   if (!shared) {
      shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      if (shared == MAP_FAILED)
         abort();
   }
   shared->next_fault = -1;
   snprintf(folder, sizeof folder, "%s", below);
   shared->failed[0] = 0;
   fault_errno = number;
   fault_stays = stays;
   shared->next_fault = n;
}
/* No call fails any more; what has failed, or "". */
const char *fault_disarm(void)
{
   shared->next_fault = -1;
   return shared->failed;
}

static int is_below(const char *path)
{
   const size_t length = strlen(folder);
   char buffer[PATH_MAX];
   if (!path)
      return 0;
   if (path[0] != '/') {
      if (syscall(SYS_getcwd, buffer, sizeof buffer) < 0)
         return 0;
      strncat(buffer, "/", sizeof buffer - strlen(buffer) - 1);
      strncat(buffer, path, sizeof buffer - strlen(buffer) - 1);
      path = buffer;
   }
   return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}
static int is_file_below(int descriptor)
{
   char link[64], buffer[PATH_MAX];
   snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
   const long size = syscall(SYS_readlink, link, buffer, sizeof buffer - 1);
   if (size <= 0)
      return 0;
   buffer[size] = 0;
   return is_below(buffer);
}
/* Whether this call is to fail. */
static int fails(const char *name, int below, int takes_space)
{
   if (shared->next_fault < 0 || !below || (fault_stays && !takes_space))
      return 0;
   if (shared->next_fault > 0) {
      --shared->next_fault;
      return 0;
   }
   if (!fault_stays)
      shared->next_fault = -1;
   if (!shared->failed[0])
      snprintf(shared->failed, sizeof shared->failed, "%s", name);
   errno = fault_errno;
   return 1;
}

#define REAL(result, name, ...)        \
   static result (*real)(__VA_ARGS__); \
   if (!real)                          \
   real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define ARMED (shared && shared->next_fault >= 0)

#define OPEN(name)                                                                                   \
   int name(const char *path, int flags, ...)                                                        \
   {                                                                                                 \
      REAL(int, #name, const char *, int, ...);                                                      \
      va_list list;                                                                                  \
      va_start(list, flags);                                                                         \
      const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;                  \
      va_end(list);                                                                                  \
      return ARMED && fails("open", is_below(path), flags & O_CREAT) ? -1 : real(path, flags, mode); \
   }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                      \
   int name(int at, const char *path, int flags, ...)                                                     \
   {                                                                                                      \
      REAL(int, #name, int, const char *, int, ...);                                                      \
      va_list list;                                                                                       \
      va_start(list, flags);                                                                              \
      const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;                       \
      va_end(list);                                                                                       \
      const int below = ARMED && (path[0] == '/' || at == AT_FDCWD ? is_below(path) : is_file_below(at)); \
      return ARMED && fails("openat", below, flags & O_CREAT) ? -1 : real(at, path, flags, mode);         \
   }
OPENAT(openat)
OPENAT(openat64)

FILE *fopen(const char *path, const char *mode)
{
   REAL(FILE *, "fopen", const char *, const char *);
   return ARMED && fails("fopen", is_below(path), mode[0] != 'r') ? NULL : real(path, mode);
}
FILE *fopen64(const char *path, const char *mode)
{
   REAL(FILE *, "fopen64", const char *, const char *);
   return ARMED && fails("fopen64", is_below(path), mode[0] != 'r') ? NULL : real(path, mode);
}
DIR *opendir(const char *path)
{
   REAL(DIR *, "opendir", const char *);
   return ARMED && fails("opendir", is_below(path), 0) ? NULL : real(path);
}

#define OF_PATH(type, name, space, parameters, arguments)                        \
   type name parameters                                                          \
   {                                                                             \
      static type(*real) parameters;                                             \
      if (!real)                                                                 \
         real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                     \
      return ARMED && fails(#name, is_below(path), space) ? -1 : real arguments; \
   }
OF_PATH(int, mkdir, 1, (const char *path, mode_t mode), (path, mode))
OF_PATH(int, rmdir, 0, (const char *path), (path))
OF_PATH(int, unlink, 0, (const char *path), (path))
OF_PATH(int, rename, 1, (const char *path, const char *to), (path, to))
OF_PATH(int, link, 1, (const char *path, const char *to), (path, to))
OF_PATH(int, symlink, 1, (const char *to, const char *path), (to, path))
OF_PATH(int, chmod, 0, (const char *path, mode_t mode), (path, mode))
OF_PATH(int, access, 0, (const char *path, int mode), (path, mode))
OF_PATH(int, stat, 0, (const char *path, struct stat *found), (path, found))
OF_PATH(int, lstat, 0, (const char *path, struct stat *found), (path, found))
OF_PATH(int, stat64, 0, (const char *path, struct stat64 *found), (path, found))
OF_PATH(int, lstat64, 0, (const char *path, struct stat64 *found), (path, found))

#define OF_PATH_AT(name, space, parameters, arguments)                                                    \
   int name parameters                                                                                    \
   {                                                                                                      \
      static int(*real) parameters;                                                                       \
      if (!real)                                                                                          \
         real = (int(*) parameters)dlsym(RTLD_NEXT, #name);                                               \
      const int below = ARMED && (path[0] == '/' || at == AT_FDCWD ? is_below(path) : is_file_below(at)); \
      return ARMED && fails(#name, below, space) ? -1 : real arguments;                                   \
   }
OF_PATH_AT(mkdirat, 1, (int at, const char *path, mode_t mode), (at, path, mode))
OF_PATH_AT(unlinkat, 0, (int at, const char *path, int flags), (at, path, flags))
OF_PATH_AT(renameat, 1, (int at, const char *path, int other, const char *to), (at, path, other, to))
OF_PATH_AT(linkat, 1, (int at, const char *path, int other, const char *to, int flags), (at, path, other, to, flags))
OF_PATH_AT(fchmodat, 0, (int at, const char *path, mode_t mode, int flags), (at, path, mode, flags))
OF_PATH_AT(faccessat, 0, (int at, const char *path, int mode, int flags), (at, path, mode, flags))
OF_PATH_AT(fstatat, 0, (int at, const char *path, struct stat *found, int flags), (at, path, found, flags))
OF_PATH_AT(fstatat64, 0, (int at, const char *path, struct stat64 *found, int flags), (at, path, found, flags))

#define OF_FILE(type, name, space, parameters, arguments)                             \
   type name parameters                                                               \
   {                                                                                  \
      static type(*real) parameters;                                                  \
      if (!real)                                                                      \
         real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                          \
      return ARMED && fails(#name, is_file_below(file), space) ? -1 : real arguments; \
   }
OF_FILE(ssize_t, read, 0, (int file, void *data, size_t count), (file, data, count))
OF_FILE(ssize_t, pread, 0, (int file, void *data, size_t count, off_t at), (file, data, count, at))
OF_FILE(ssize_t, pread64, 0, (int file, void *data, size_t count, off64_t at), (file, data, count, at))
OF_FILE(ssize_t, write, 1, (int file, const void *data, size_t count), (file, data, count))
OF_FILE(ssize_t, pwrite, 1, (int file, const void *data, size_t count, off_t at), (file, data, count, at))
OF_FILE(ssize_t, pwrite64, 1, (int file, const void *data, size_t count, off64_t at), (file, data, count, at))
OF_FILE(ssize_t, writev, 1, (int file, const struct iovec *parts, int count), (file, parts, count))
OF_FILE(ssize_t, sendfile, 1, (int file, int from, off_t *at, size_t count), (file, from, at, count))
OF_FILE(ssize_t, sendfile64, 1, (int file, int from, off64_t *at, size_t count), (file, from, at, count))
OF_FILE(int, fsync, 1, (int file), (file))
OF_FILE(int, fdatasync, 1, (int file), (file))
OF_FILE(int, ftruncate, 1, (int file, off_t size), (file, size))
OF_FILE(int, ftruncate64, 1, (int file, off64_t size), (file, size))
OF_FILE(int, fchmod, 0, (int file, mode_t mode), (file, mode))
OF_FILE(int, flock, 0, (int file, int operation), (file, operation))
OF_FILE(int, fstat, 0, (int file, struct stat *found), (file, found))
OF_FILE(int, fstat64, 0, (int file, struct stat64 *found), (file, found))

ssize_t copy_file_range(int from, off64_t *at, int file, off64_t *to, size_t count, unsigned flags)
{
   REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
   return ARMED && fails("copy_file_range", is_file_below(file), 1) ? -1 : real(from, at, file, to, count, flags);
}
int close(int file)
{
   REAL(int, "close", int);
   const int wrong = ARMED && fails("close", is_file_below(file), 0);
   const int result = real(file);
   if (wrong)
      errno = fault_errno;
   return wrong ? -1 : result;
}
#define MMAP(name, offset)                                                                                   \
   void *name(void *at, size_t size, int protection, int flags, int file, offset begin)                      \
   {                                                                                                         \
      REAL(void *, #name, void *, size_t, int, int, int, offset);                                            \
      const int below = ARMED && file >= 0 && is_file_below(file);                                           \
      return ARMED && fails("mmap", below, 0) ? MAP_FAILED : real(at, size, protection, flags, file, begin); \
   }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
