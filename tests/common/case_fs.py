#!/usr/bin/python3
"""A FUSE file system that ignores case and refuses files larger than LIMIT bytes: case_fs.py BACKING MOUNTPOINT LIMIT INODES

INODES: "permanent" for the inode numbers of the backing folder, otherwise "invented"."""
import errno
import os
import sys

import fusepy
from fusepy import FUSE, FuseOSError


class CaseFs(fusepy.Operations):
    def __init__(self, backing, limit):
        self.backing, self.limit = backing, limit

    def real(self, path):
        """The path in the backing folder that a name refers to, whatever its case."""
        at = self.backing
        for part in filter(None, path.split("/")):
            names = os.listdir(at) if os.path.isdir(at) else []
            found = [name for name in names if name.lower() == part.lower()]
            at = os.path.join(at, found[0] if found else part)
        return at

    def getattr(self, path, fh=None):
        try:
            st = os.lstat(self.real(path))
        except OSError as error:
            raise FuseOSError(error.errno)
        keys = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid", "st_ino")
        return {key: getattr(st, key) for key in keys}

    def readdir(self, path, fh):
        return [".", ".."] + os.listdir(self.real(path))

    def create(self, path, mode, fi=None):
        real = self.real(path)
        if os.path.exists(real):
            raise FuseOSError(errno.EEXIST)
        return os.open(real, os.O_RDWR | os.O_CREAT, mode)

    def open(self, path, flags):
        return os.open(self.real(path), flags & ~os.O_CREAT & ~os.O_EXCL)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        if offset + len(data) > self.limit:
            raise FuseOSError(errno.EFBIG)
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        if length > self.limit:
            raise FuseOSError(errno.EFBIG)
        os.truncate(self.real(path), length)

    def unlink(self, path):
        os.unlink(self.real(path))

    def mkdir(self, path, mode):
        os.mkdir(self.real(path), mode)

    def rmdir(self, path):
        os.rmdir(self.real(path))

    def rename(self, old, new):
        os.rename(self.real(old), os.path.join(os.path.dirname(self.real(new)), os.path.basename(new)))

    def release(self, path, fh):
        os.close(fh)
        return 0

    def chmod(self, path, mode):
        os.chmod(self.real(path), mode)

    def chown(self, path, uid, gid):
        pass

    def utimens(self, path, times=None):
        os.utime(self.real(path), times)

    def statfs(self, path):
        st = os.statvfs(self.backing)
        keys = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")
        return {key: getattr(st, key) for key in keys}


if __name__ == "__main__":
    FUSE(CaseFs(sys.argv[1], int(sys.argv[3])), sys.argv[2], foreground=True, nothreads=True, attr_timeout=0, entry_timeout=0, use_ino=sys.argv[4] == "permanent")
