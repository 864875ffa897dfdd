// A gRPC client and server over grpc-js, told what to do by its arguments. Messages are bytes as they
// are: no proto file. tests/support/grpc_mesh.py has the contract.
'use strict';

const grpc = require('@grpc/grpc-js');

const raw = (bytes) => Buffer.from(bytes);
const kind = (name) => ({
    path: `/pillion.test.Echo/${name}`,
    requestStream: name === 'Collect' || name === 'Chat',
    responseStream: name === 'Spread' || name === 'Chat',
    requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw,
});
const service = Object.fromEntries(['Unary', 'Collect', 'Spread', 'Chat'].map((n) => [n, kind(n)]));

function trailer(text) {
    const metadata = new grpc.Metadata();
    metadata.set('echo-trailer', text);
    return metadata;
}

const methods = {
    Unary(call, done) {
        if (call.request.toString() === 'fail') {
            done({code: grpc.status.NOT_FOUND, details: 'nothing of that name: \u00fc%',
                  metadata: trailer('failed')});
        } else {
            done(null, call.request, trailer('done'));
        }
    },
    Collect(call, done) {
        const parts = [];
        call.on('data', (part) => parts.push(part));
        call.on('end', () => done(null, Buffer.concat(parts)));
    },
    Spread(call) {
        for (let i = 0; i < call.request.length; i++) {
            call.write(call.request.subarray(i, i + 1));
        }
        call.end();
    },
    Chat(call) {
        call.on('data', (part) => call.write(part));
        call.on('end', () => call.end());
    },
};

function serve(port) {
    const server = new grpc.Server();
    server.addService(service, methods);
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
        if (error) {
            throw error;
        }
    });
}

function ask(port, name, parts) {
    const Client = grpc.makeGenericClientConstructor(service, 'Echo');
    const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    const deadline = {deadline: Date.now() + 30000};
    const messages = [];
    let sent = 0;
    const done = (error, message) => {
        if (message) {
            messages.push(message.toString());
        }
    };
    const {requestStream, responseStream} = service[name];
    const metadata = new grpc.Metadata();
    let call;
    if (requestStream) {
        call = responseStream ? client[name](metadata, deadline)
                              : client[name](metadata, deadline, done);
    } else {
        const request = Buffer.from(parts[0]);
        call = responseStream ? client[name](request, metadata, deadline)
                              : client[name](request, metadata, deadline, done);
    }
    const next = () => {
        if (sent < parts.length) {
            call.write(Buffer.from(parts[sent++]));
        } else {
            call.end();
        }
    };
    if (responseStream) {
        call.on('data', (part) => {
            messages.push(part.toString());
            if (name === 'Chat') {
                next(); // the answer came before our end
            }
        });
        call.on('error', () => {});
    }
    if (name === 'Chat') {
        next();
    } else if (requestStream) {
        parts.forEach(next);
        next();
    }
    call.on('status', (status) => {
        process.nextTick(() => {
            console.log(JSON.stringify({messages, status: status.code, message: status.details,
                                        trailer: status.metadata.get('echo-trailer')}));
            client.close();
        });
    });
}

const [role, port, name, ...parts] = process.argv.slice(2);
if (role === 'server') {
    serve(port);
} else if (role === 'client') {
    ask(port, name, parts);
} else {
    console.error('usage: echo.js server PORT | client PORT METHOD PART...');
    process.exit(1);
}
