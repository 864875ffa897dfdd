// The shop over grpc-js. `serve inventory`: InventoryService; `serve order`: OrderService, which asks
// the other two; `check` and `order`: a client, which prints what became of each call as call.py does.
'use strict';

const fs = require('fs');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, 'shop.proto'), {keepCase: true});
const shop = grpc.loadPackageDefinition(definition).shop.v1;

// WHAT... --NAME VALUE...
const first = process.argv.findIndex((word) => word.startsWith('--'));
const [what, which] = process.argv.slice(2, first);
const options = {};
for (let i = first; i < process.argv.length; i += 2) {
    options[process.argv[i].slice(2)] = process.argv[i + 1];
}

function client(Service, to, authority) {
    return new Service(to, grpc.credentials.createInsecure(),
                       {'grpc.default_authority': authority, 'grpc.enable_retries': 0,
                        // a nameserver would be asked for it, and a pod here has none
                        'grpc.service_config_disable_resolution': 1});
}

function seen(call) {
    const told = call.metadata.get('x-forwarded-client-cert').join(',');
    const uri = /URI=([^;,]*)/.exec(told);
    return {version: options.version, instance: options.instance, caller: uri ? uri[1] : ''};
}

const unary = (stub, method, request) => new Promise((resolve, reject) => {
    stub[method](request, {deadline: Date.now() + 20000},
                 (error, answer) => (error ? reject(error) : resolve(answer)));
});

// ---- servers ----

const inventory = {
    CheckAvailability(call, done) {
        done(null, {item: call.request, available: call.request.quantity < 100, seen: seen(call)});
    },
    ReserveItems(call, done) {
        let count = 0;
        call.on('data', (item) => { count += item.quantity; });
        call.on('end', () => done(null, {id: `r-${count}`, items: count, seen: seen(call)}));
    },
};

function orders() {
    const users = client(shop.UserService, options.users, 'user-service:9000');
    const stock = client(shop.InventoryService, options.inventory, 'inventory-service:9000');
    const reserve = (items) => new Promise((resolve, reject) => {
        const call = stock.ReserveItems({deadline: Date.now() + 20000},
                                        (error, got) => (error ? reject(error) : resolve(got)));
        items.forEach((item) => call.write(item));
        call.end();
    });
    let count = 0;
    return {
        async PlaceOrder(call, done) {
            try {
                const user = await unary(users, 'GetUser', {id: call.request.user_id});
                for (const item of call.request.items) {
                    const there = await unary(stock, 'CheckAvailability', item);
                    if (!there.available) {
                        done({code: grpc.status.FAILED_PRECONDITION, details: `${item.sku} is sold out`});
                        return;
                    }
                }
                const reservation = await reserve(call.request.items);
                done(null, {id: `o-${++count}`, user, reservation, seen: seen(call)});
            } catch (error) {
                done({code: error.code, details: error.details});
            }
        },
        TrackOrder(call) {
            ['placed', 'packed', 'sent'].forEach((state) => call.write({state}));
            call.end();
        },
    };
}

function serve() {
    const server = new grpc.Server();
    if (which === 'inventory') {
        server.addService(shop.InventoryService.service, inventory);
    } else {
        server.addService(shop.OrderService.service, orders());
    }
    server.bindAsync(options.listen, grpc.ServerCredentials.createInsecure(), (error) => {
        if (error) {
            throw error;
        }
    });
    process.on('SIGTERM', () => server.tryShutdown(() => process.exit(0)));
}

// ---- clients ----

const nowUs = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function timed(work) {
    const row = {at: nowUs()};
    try {
        const got = await work();
        Object.assign(row, {ok: true, code: 0}, got.seen, got.row);
    } catch (error) {
        Object.assign(row, {ok: false, code: error.code, why: error.details || String(error)});
    }
    row.end = nowUs();
    return row;
}

function track(stub, id) {
    return new Promise((resolve, reject) => {
        const states = [];
        const call = stub.TrackOrder({id}, {deadline: Date.now() + 20000});
        call.on('data', (one) => states.push(one.state));
        call.on('end', () => resolve(states));
        call.on('error', reject);
    });
}

async function order(stub, number) {
    const user = number % 10 === 9 ? 'nobody' : `u${number}`; // the last of ten does not exist
    const items = [{sku: 'a', quantity: 1}, {sku: 'b', quantity: 2}];
    const placed = await unary(stub, 'PlaceOrder', {user_id: user, items});
    const states = await track(stub, placed.id);
    return {seen: placed.seen, row: {items: placed.reservation.items, states, user: placed.user.seen,
                                     inventory: placed.reservation.seen}};
}

async function calls() {
    const Service = what === 'check' ? shop.InventoryService : shop.OrderService;
    const stub = client(Service, options.to, options.authority);
    await new Promise((resolve, reject) => {
        stub.waitForReady(Date.now() + 20000, (error) => (error ? reject(error) : resolve()));
    });
    const begin = performance.now();
    const rows = [];
    for (let number = 0; number < Number(options.calls); number++) {
        await sleep(Math.max(0, begin + number * 1000 / Number(options.rate) - performance.now()));
        rows.push(timed(() => (what === 'check'
            ? unary(stub, 'CheckAvailability', {sku: `s${number}`, quantity: 1})
            : order(stub, number))));
    }
    fs.writeSync(1, JSON.stringify(await Promise.all(rows)));
    stub.close();
}

if (what === 'serve') {
    serve();
} else {
    calls().catch((error) => {
        console.error(error);
        process.exit(1);
    });
}
