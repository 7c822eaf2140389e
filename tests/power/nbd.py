"""A network block device that forgets what was not flushed.

It speaks the NBD protocol (fixed newstyle, simple replies) on a Unix socket to one client at a
time. Reads see every write; a flush carries all writes answered before it to the platter. When
the client goes, power is lost: of every unflushed write any sectors may have arrived, decided by a
seed, and the rest is forgotten.
"""

import random
import socket
import struct
import threading

SECTOR = 512
FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, 0x80000001
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH = 0, 1, 2, 3
CMD_FLAG_FUA = 1


class ForgetfulDisk:
    """The medium: what processes see, what the platter holds, what lies between."""

    def __init__(self, image, seed):
        self.cache = bytearray(image)
        self.platter = bytearray(image)
        self.unflushed = []
        # Answers flushes and does nothing, as some drives do.
        self.lies = False
        self.random = random.Random(seed)
        self.flushes = 0
        self.writes = 0
        self.forgotten_sectors = 0

    def read(self, offset, length):
        return self.cache[offset : offset + length]

    def write(self, offset, data, forced):
        self.writes += 1
        self.cache[offset : offset + len(data)] = data
        if forced:
            # Earlier unflushed writes to these sectors must not come back over it.
            self.flush()
            self.platter[offset : offset + len(data)] = data
        else:
            self.unflushed.append((offset, data))

    def flush(self):
        self.flushes += 1
        if self.lies:
            return
        for offset, data in self.unflushed:
            self.platter[offset : offset + len(data)] = data
        self.unflushed.clear()

    def lose_power(self):
        """Decides the fate of every unflushed sector; returns how many were forgotten."""
        kept = self.random.choice([0.0, 0.5, 0.5, 0.9])
        forgotten = 0
        for offset, data in self.unflushed:
            for start in range(0, len(data), SECTOR):
                if self.random.random() < kept:
                    piece = data[start : start + SECTOR]
                    self.platter[offset + start : offset + start + len(piece)] = piece
                else:
                    forgotten += 1
        self.unflushed.clear()
        self.cache[:] = self.platter
        self.forgotten_sectors += forgotten
        return forgotten


class Server(threading.Thread):
    """Serves one disk; `lost` counts the losses of power, each a client that went."""

    def __init__(self, path, disk):
        super().__init__(daemon=True)
        self.disk = disk
        self.lost = threading.Semaphore(0)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            try:
                if self.negotiate(connection):
                    self.serve(connection)
            except (ConnectionError, EOFError):
                pass
            finally:
                connection.close()
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
        flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA
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
        while True:
            _, flags, command, handle, offset, length = struct.unpack(
                ">IHHQQI", self.receive(connection, 28)
            )
            answer = struct.pack(">IIQ", 0x67446698, 0, handle)
            if command == CMD_READ:
                answer += self.disk.read(offset, length)
            elif command == CMD_WRITE:
                data = self.receive(connection, length)
                self.disk.write(offset, data, flags & CMD_FLAG_FUA)
            elif command == CMD_FLUSH:
                self.disk.flush()
            elif command == CMD_DISC:
                return
            else:
                answer = struct.pack(">IIQ", 0x67446698, 22, handle)
            connection.sendall(answer)
