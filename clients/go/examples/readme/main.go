package main

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/brokerpgx"
)

func main() {
	ctx := context.Background()
	client, err := secretbroker.FromEnv() // SECRET_BROKER_ADDRESS and SECRET_BROKER_CERT_DIR
	check(err)
	live, err := client.Live(ctx, "DB") // always the current version
	check(err)
	config, err := pgxpool.ParseConfig("") // PGHOST, PGPORT and PGDATABASE
	check(err)
	pool, err := brokerpgx.NewPool(ctx, live, config) // follows each rotation
	check(err)
	check(pool.Ping(ctx))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
