/**
 * A web service whose database login and token keys are replaced while it runs.
 *
 *     node web_service.js PORT DATABASE_URL
 *
 * `POST /` answers a token; `GET /` with it as `Authorization: Bearer …` answers who it is in the database.
 */

import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { Client } from "@secret-broker/client";
import { Jwt } from "@secret-broker/client/jwt";
import { BrokerPool } from "@secret-broker/client/pg";

const [port, database] = process.argv.slice(2);
const client = Client.fromEnv();
const pool = new BrokerPool(await client.live("DB"), { connectionString: database });
const keys = new Jwt(await client.live("JWT"));

async function answer(request: IncomingMessage): Promise<[status: number, content: object]> {
  if (request.method === "POST") {
    return [200, { token: await keys.sign({ sub: "somebody" }, { lifetimeSecs: 3600 }) }];
  }
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
  try {
    const { sub } = await keys.verify(token, { requiredClaims: ["exp"] });
    const { rows } = await pool.query<{ user: string }>('SELECT current_user AS "user"');
    return [200, { sub, user: rows[0]?.user }];
  } catch (error) {
    return [(error as Error).name.startsWith("J") ? 401 : 500, { error: (error as Error).name }];
  }
}

const server = createServer((request: IncomingMessage, response: ServerResponse) => {
  void answer(request).then(([status, content]) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(content));
  });
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`serving on ${(server.address() as AddressInfo).port}`);
});
