// imapflow, which uses whatever a server announces: CONDSTORE, QRESYNC, UIDPLUS, MOVE, IDLE, COMPRESS.

const { ImapFlow } = require('imapflow');
const assert = require('assert');
const fs = require('fs');
const net = require('net');
const path = require('path');

const [smtp, imap] = process.argv.slice(2, 4).map(Number);
const folder = process.argv[4];
const user = 'u1@bench.test';

function session(qresync) {
    return new ImapFlow({
        host: '127.0.0.1',
        port: imap,
        secure: false,
        doSTARTTLS: false,
        auth: { user, pass: 'pw' },
        logger: false,
        qresync,
    });
}

// One message by SMTP, in as few words as there are.
function deliver(subject) {
    return new Promise((resolve, reject) => {
        const lines = ['EHLO client.example', 'MAIL FROM:<a@example.org>', `RCPT TO:<${user}>`, 'DATA'];
        lines.push(`Subject: ${subject}\r\n\r\nbody\r\n.`, 'QUIT');
        const socket = net.connect(smtp, '127.0.0.1');
        let said = '';
        socket.on('data', data => {
            said += data;
            while (/^[^]*?\d{3} [^\n]*\n/.test(said)) {
                const reply = said.match(/^[^]*?(\d{3}) [^\n]*\n/);
                said = said.slice(reply[0].length);
                if (reply[1] >= '400') return reject(new Error(reply[0]));
                if (lines.length) socket.write(lines.shift() + '\r\n');
            }
        });
        socket.on('close', resolve);
        socket.on('error', reject);
    });
}

function happens(client, event) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no ${event}`)), 30000);
        client.once(event, what => {
            clearTimeout(timer);
            resolve(what);
        });
    });
}

async function all(client, range, query, options) {
    const found = [];
    for await (const message of client.fetch(range, query, options)) found.push(message);
    return found;
}

async function main() {
    const wrong = new ImapFlow({
        host: '127.0.0.1',
        port: imap,
        secure: false,
        doSTARTTLS: false,
        auth: { user, pass: 'wrong' },
        logger: false,
    });
    await assert.rejects(wrong.connect(), error => error.authenticationFailed === true);
    // It leaves the connection open, until the server has waited for long enough.
    wrong.close();

    const client = session(true);
    await client.connect();
    const names = (await client.list()).map(box => [box.path, box.specialUse]);
    for (const name of ['Drafts', 'Sent', 'Trash', 'Junk', 'Archive'])
        assert(names.some(([own, use]) => own === name && use === `\\${name}`), JSON.stringify(names));
    await client.mailboxCreate(['Pläne', '2026']);
    await client.mailboxRename('Pläne/2026', 'Pläne/2027');
    await client.mailboxSubscribe('Pläne/2027');
    assert((await client.list()).some(box => box.path === 'Pläne/2027' && box.subscribed));

    // What is put in comes back.
    const texts = fs
        .readdirSync(folder)
        .sort()
        .map(name => fs.readFileSync(path.join(folder, name)))
        .filter(text => text.length && !text.includes(0));
    const date = new Date('2024-07-17T09:44:25Z');
    for (const [index, text] of texts.entries()) {
        const put = await client.append('Pläne/2027', text, ['\\Seen', '$Kept'], date);
        assert.strictEqual(put.uid, index + 1);
    }
    const lock = await client.getMailboxLock('Pläne/2027');
    assert.strictEqual(client.mailbox.exists, texts.length);
    const query = { source: true, flags: true, internalDate: true, size: true, envelope: true, bodyStructure: true };
    for (const message of await all(client, '1:*', query)) {
        const text = texts[message.uid - 1];
        assert(message.source.equals(text), `UID ${message.uid} came back differently`);
        assert.deepStrictEqual([...message.flags].sort(), ['$Kept', '\\Seen']);
        assert.strictEqual(message.internalDate.getTime(), date.getTime());
        assert.strictEqual(message.size, text.length);
        const { content } = await client.download(message.uid, undefined, { uid: true });
        const pieces = [];
        for await (const piece of content) pieces.push(piece);
        assert(Buffer.concat(pieces).equals(text), `UID ${message.uid} downloads differently`);
    }

    // Flags, searches, moves, the end of some.
    await client.messageFlagsAdd('1:3', ['\\Flagged', 'work']);
    await client.messageFlagsRemove('1', ['\\Seen']);
    assert.deepStrictEqual(await client.search({ seen: false }, { uid: true }), [1]);
    assert.deepStrictEqual(await client.search({ flagged: true, keyword: 'work' }), [1, 2, 3]);
    assert.deepStrictEqual(await client.search({ larger: 1, since: '2024-07-01' }), texts.map((_, index) => index + 1));
    const { highestModseq } = await client.status('Pläne/2027', { highestModseq: true });
    await client.messageFlagsSet('2', ['\\Answered']);
    const changed = await all(client, '1:*', { flags: true }, { changedSince: highestModseq });
    assert.deepStrictEqual(changed.map(message => message.uid), [2]);
    const copied = await client.messageCopy('1:2', 'Archive');
    assert.deepStrictEqual([...copied.uidMap], [[1, 1], [2, 2]]);
    const moved = await client.messageMove('3:4', 'Trash', { uid: true });
    assert.deepStrictEqual([...moved.uidMap], [[3, 1], [4, 2]]);
    await client.messageDelete('1', { uid: true });
    const left = (await all(client, '1:*', { uid: true })).map(message => message.uid);
    assert.deepStrictEqual(left, [2, ...texts.map((_, index) => index + 1).slice(4)]);
    lock.release();
    const state = await client.status('Trash', { messages: true, unseen: true, uidNext: true });
    assert.deepStrictEqual([state.messages, state.unseen, state.uidNext], [2, 0, 3]);

    // IDLE says what comes and goes.
    const inbox = await client.getMailboxLock('INBOX');
    const other = session(false);
    await other.connect();
    await other.mailboxOpen('INBOX');
    client.idle().catch(() => {});
    let event = happens(client, 'exists');
    await deliver('fresh');
    assert.strictEqual((await event).count, 1);
    await other.noop();
    event = happens(client, 'flags');
    await other.messageFlagsAdd('1', ['\\Flagged']);
    assert((await event).flags.has('\\Flagged'));
    event = happens(client, 'expunge');
    await other.messageDelete('1');
    // With QRESYNC it is told by UID.
    const gone = await event;
    assert(gone.uid === 1 || gone.seq === 1, JSON.stringify(gone));
    inbox.release();
    await other.logout();
    await client.mailboxDelete('Pläne/2027');
    await client.logout();
    console.log('imapflow: all well');
}

main().catch(error => {
    console.error(error);
    process.exit(1);
});
