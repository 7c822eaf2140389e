"""A network block device that forgets what was not flushed.

It speaks the NBD protocol (fixed newstyle, simple replies) on a Unix socket to one client at a
time. Reads see every write. A flush takes a few milliseconds, in which other requests go on; when
it is answered, all writes answered before it began are on the platter. `Server.cut` takes the
power away, at once or at a write yet to come: of every write not flushed by then any sectors may
have arrived, as a seed decides, and the rest is forgotten.
"""

import random
import select
import socket
import struct
import threading
import time

# What arrives whole or not at all; in some blocks, which the disk is told, the block.
SECTOR = 512
BLOCK = 4096
FLUSH_SECONDS_MAX = 0.008
FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO = 1, 2, 6, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, 0x80000001
HAS_FLAGS, SEND_FLUSH = 1, 4
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH = 0, 1, 2, 3
EINVAL = 22


class ForgetfulDisk:
    """The medium: what the guest sees, what the platter holds, what lies between."""

    def __init__(self, image, seed, whole_blocks, lies=False):
        self.whole_blocks = whole_blocks
        self.cache = bytearray(image)
        self.platter = bytearray(image)
        self.unflushed = []  # (offset, data), in the order of the writes
        self.arrived = 0  # writes that a flush has carried to the platter
        # Answers flushes and does nothing, as some drives do.
        self.lies = lies
        self.random = random.Random(seed)
        self.flushes = 0
        self.writes = 0
        self.forgotten_sectors = 0

    def read(self, offset, length):
        return self.cache[offset : offset + length]

    def write(self, offset, data):
        self.writes += 1
        self.cache[offset : offset + len(data)] = data
        self.unflushed.append((offset, data))

    def begin_flush(self):
        """What `end_flush` is to be told: which writes this flush covers."""
        return self.arrived + len(self.unflushed)

    def end_flush(self, covered):
        self.flushes += 1
        if self.lies or covered <= self.arrived:
            return
        count = covered - self.arrived
        for offset, data in self.unflushed[:count]:
            self.platter[offset : offset + len(data)] = data
        del self.unflushed[:count]
        self.arrived = covered

    def lose_power(self):
        """Decides the fate of every unflushed sector."""
        if self.lies:
            # In order but late: the filesystem stays whole, what it was told is safe goes.
            keep = int(len(self.unflushed) * self.random.uniform(0, 0.8))
            chances = [1.0] * keep + [0.0] * (len(self.unflushed) - keep)
        else:
            chances = [self.random.choice([0.0, 0.5, 0.5, 0.9])] * len(self.unflushed)
            if chances:
                # At least one write is lost, or the cut would show nothing.
                chances[self.random.randrange(len(chances))] = 0.0
        for (offset, data), chance in zip(self.unflushed, chances):
            start = 0
            while start < len(data):
                position = offset + start
                unit = BLOCK if position // BLOCK in self.whole_blocks else SECTOR
                piece = data[start : start + unit - position % unit]
                if self.random.random() < chance:
                    self.platter[position : position + len(piece)] = piece
                else:
                    self.forgotten_sectors += len(piece) // SECTOR
                start += len(piece)
        self.unflushed.clear()
        self.cache[:] = self.platter


class Server(threading.Thread):
    """Serves one disk, one client after another, each until the power is cut."""

    def __init__(self, path, disk):
        super().__init__(daemon=True)
        self.disk = disk
        self.dark = threading.Event()
        self.dark_at_write = None
        self.deciding = threading.Lock()
        self.lost = threading.Semaphore(0)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)

    def cut_at_write(self, count):
        """Cuts the power when that many writes more have come; `dark` tells when; None: never."""
        with self.deciding:
            self.dark_at_write = None if count is None else self.disk.writes + count

    def cut(self, kill_client):
        """Cuts the power now; returns when the disk is ready for the next client."""
        self.dark.set()
        kill_client()
        self.lost.acquire()
        self.dark_at_write = None
        self.dark.clear()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                try:
                    if self.negotiate(connection):
                        self.serve(connection)
                    # No answer and no error: the client is to stop in the middle of things.
                    while connection.recv(1 << 16):
                        pass
                except (ConnectionError, EOFError):
                    pass
            self.disk.lose_power()
            self.lost.release()

    @staticmethod
    def receive(connection, length):
        data = bytearray()
        while len(data) < length:
            piece = connection.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def negotiate(self, connection):
        connection.sendall(
            b"NBDMAGICIHAVEOPT" + struct.pack(">H", FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)
        )
        self.receive(connection, 4)
        size = len(self.disk.cache)
        flags = HAS_FLAGS | SEND_FLUSH
        while True:
            _, option, length = struct.unpack(">8sII", self.receive(connection, 16))
            self.receive(connection, length)

            def reply(kind, data=b""):
                connection.sendall(
                    struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data
                )

            if option == OPT_EXPORT_NAME:
                connection.sendall(struct.pack(">QH", size, flags))
                return True
            if option == OPT_ABORT:
                reply(REP_ACK)
                return False
            if option in (OPT_INFO, OPT_GO):
                reply(REP_INFO, struct.pack(">HQH", 0, size, flags))
                reply(REP_INFO, struct.pack(">HIII", 3, SECTOR, 4096, 1 << 25))
                reply(REP_ACK)
                if option == OPT_GO:
                    return True
            else:
                reply(REP_ERR_UNSUP)

    def serve(self, connection):
        ending = []  # (when, handle, covered) of flushes under way, in their order
        while not self.dark.is_set():
            now = time.monotonic()
            while ending and ending[0][0] <= now:
                _, handle, covered = ending.pop(0)
                self.disk.end_flush(covered)
                connection.sendall(self.answer(handle))
            patience = max(0, ending[0][0] - now) if ending else 0.02
            if not select.select([connection], [], [], patience)[0]:
                continue
            _, _, command, handle, offset, length = struct.unpack(
                ">IHHQQI", self.receive(connection, 28)
            )
            if command == CMD_READ:
                connection.sendall(self.answer(handle) + self.disk.read(offset, length))
            elif command == CMD_WRITE:
                self.disk.write(offset, self.receive(connection, length))
                with self.deciding:
                    if self.disk.writes == self.dark_at_write:
                        self.dark.set()
                        return
                connection.sendall(self.answer(handle))
            elif command == CMD_FLUSH:
                begun = max(time.monotonic(), ending[-1][0] if ending else 0)
                takes = self.disk.random.uniform(0, FLUSH_SECONDS_MAX)
                ending.append((begun + takes, handle, self.disk.begin_flush()))
            elif command == CMD_DISC:
                return
            else:
                connection.sendall(self.answer(handle, EINVAL))

    @staticmethod
    def answer(handle, error=0):
        return struct.pack(">IIQ", 0x67446698, error, handle)
