"""How long the callback path takes to import, against the peer's: what a cold start waits for.

The product: ``webhooks.callbacks`` with the store behind it, and every provider, as the first callback needs them. The
peer: Django with anymail as its only application, set up, and anymail's view for SendGrid's callbacks. Both with
compiled files, and without the interpreter's own start. The SDKs and the bulk engine must not come along.
"""

from __future__ import annotations

from benchmarks.frame import PEERS, Benchmark, Goal, Variant, main

# Programs, not functions: what this module and its frame import themselves would be missing from the time.
PRODUCT = """
import time
begun = time.perf_counter()
import connectors
import core.stores.group_commit
import webhooks.callbacks
connectors.providers()
seconds = time.perf_counter() - begun
import json, sys
modules = len(sys.modules)
heavy = [name for name in ("boto3", "botocore", "duckdb", "sendgrid", "mailchimp_marketing") if name in sys.modules]
missing = [name for name in ("connectors.sendgrid.codec", "core.stores.sqlite") if name not in sys.modules]
sys.exit(f"imported although no callback needs it: {heavy}" if heavy else f"not measured: {missing}" if missing else
         print(json.dumps({"seconds": seconds, "modules": modules})))
"""

SENDGRID_ALONE = """
import time
begun = time.perf_counter()
import connectors.sendgrid
import core.stores.group_commit
import webhooks.callbacks
seconds = time.perf_counter() - begun
import json, sys
print(json.dumps({"seconds": seconds, "modules": len(sys.modules)}))
"""

APPLICATION = """
import time
begun = time.perf_counter()
import webhooks.app
seconds = time.perf_counter() - begun
import json, sys
print(json.dumps({"seconds": seconds, "modules": len(sys.modules)}))
"""

PEER = """
import time
begun = time.perf_counter()
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["anymail"])
django.setup()
import anymail.webhooks.sendgrid
seconds = time.perf_counter() - begun
import json, sys
print(json.dumps({"seconds": seconds, "modules": len(sys.modules), "django": django.get_version()}))
"""

if __name__ == "__main__":
    main(
        Benchmark(
            name="import_callbacks",
            variants=[
                Variant("product", PRODUCT),
                Variant("django_anymail", PEER, PEERS),
                Variant("product_sendgrid_alone", SENDGRID_ALONE),
                Variant("product_whole_application", APPLICATION),
            ],
            goal=Goal(of="product", against="django_anymail", at_most=0.45),
            runs=9,
        )
    )
