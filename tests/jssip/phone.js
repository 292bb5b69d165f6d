// A phone in a browser, without the browser: JsSIP, with the WebSockets of the package `ws` in place of a page's.
//
//     node phone.js URL ADDRESS-OF-RECORD PASSWORD SECONDS ORIGIN
//
// It registers for so many seconds at a time and prints a line for whatever happens to it. SIGTERM: it unregisters and
// ends. SIGUSR2: its connection breaks, and it goes on as JsSIP does then.
'use strict';

const JsSIP = require('jssip');
const WebSocket = require('ws');

const [url, uri, password, seconds, origin] = process.argv.slice(2);
const say = (...words) => console.log(words.join(' '));

let socket;
// JsSIP looks for the browser's class by its name. A browser says which page it shows; a program has to be told.
global.WebSocket = class extends WebSocket {
  constructor(address, protocol) {
    super(address, protocol, { origin });
    socket = this;
  }
};

const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(url)],
  uri,
  password,
  register_expires: Number(seconds),
});
phone.on('connected', () => say('connected'));
phone.on('disconnected', () => say('disconnected'));
phone.on('registered', ({ response }) => say('registered', response.status_code));
phone.on('registrationFailed', ({ response, cause }) => say('refused', response ? response.status_code : '-', cause));
phone.on('unregistered', ({ response }) => say('unregistered', response ? response.status_code : '-'));

process.on('SIGTERM', () => {
  phone.on('disconnected', () => process.exit(0));
  phone.stop();
});
process.on('SIGUSR2', () => socket.terminate());
phone.start();
