"""Runs the rules on Spark: a program for the environment of ``requirements/spark.txt``, called by its test.

``on_spark.py RULES FOLDER``: reads the tables ``FOLDER/<name>.parquet``, writes ``FOLDER/verdicts`` as CSV, and prints
a line of JSON with the statement in Athena's dialect, parsed back from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TABLES = ("claim", "record", "wording", "covers", "repeated", "first_use", "terms")


def main(rules: Path, folder: Path) -> None:
    """Run them."""
    import sqlglot  # type: ignore[import-not-found, unused-ignore]
    from pyspark.sql import SparkSession  # type: ignore[import-not-found, unused-ignore]

    text = rules.read_text("utf-8")
    (athena,) = sqlglot.transpile(text, read="duckdb", write="athena", comments=False)
    again = sqlglot.parse_one(athena, read="athena")
    (statement,) = sqlglot.transpile(text, read="duckdb", write="spark", comments=False)
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in {**settings, "spark.driver.host": "127.0.0.1"}.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for table in TABLES:
        spark.read.parquet(str(folder / f"{table}.parquet")).createOrReplaceTempView(table)
    spark.sql(statement).write.mode("overwrite").option("header", value=True).csv(str(folder / "verdicts"))
    spark.stop()
    tables = sorted({table.name for table in again.find_all(sqlglot.exp.Table)})
    sys.stdout.write(json.dumps({"athena": athena, "same": again.sql("athena") == athena, "tables": tables}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
