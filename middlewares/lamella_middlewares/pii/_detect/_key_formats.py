"""What the keys and tokens of well-known services look like.

Each row: the literal texts of which one is in every such key, and the expression. A text with `*`
stands in the middle, the others at the beginning. Lengths are least ones where a service has made
its keys longer before; one that is exact, `{32}` at the end, must not go on. What is public by
design (Stripe's `pk_`, Twilio's `AC`) is no secret.
"""

from __future__ import annotations

from typing import Final

FORMATS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    # Language models.
    # OpenAI (platform.openai.com/docs/api-reference/authentication), Anthropic (sk-ant-api03-),
    # OpenRouter (sk-or-v1-), DeepSeek and others that took the form over.
    (("sk-",), "sk-[A-Za-z0-9_-]{20,300}"),
    # huggingface.co/docs/hub/security-tokens
    (("hf_", "api_org_"), "(?:hf|api_org)_[A-Za-z0-9]{30,80}"),
    # console.groq.com, docs.x.ai, docs.perplexity.ai, replicate.com/docs/reference/http
    (("gsk_",), "gsk_[A-Za-z0-9]{40,80}"),
    (("xai-",), "xai-[A-Za-z0-9]{70,100}"),
    (("pplx-",), "pplx-[A-Za-z0-9]{40,80}"),
    (("r8_",), "r8_[A-Za-z0-9]{37,60}"),
    # docs.smith.langchain.com, docs.tavily.com, docs.pinecone.io
    (("lsv2_",), "lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    (("tvly-",), "tvly-[A-Za-z0-9-]{20,64}"),
    (("pcsk_",), "pcsk_[A-Za-z0-9]{5,8}_[A-Za-z0-9]{40,80}"),
    # Clouds.
    # docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html: unique id prefixes.
    (("AKIA", "ASIA", "ABIA", "ACCA"), "(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    # docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
    (("ABSK", "bedrock-api-key-"), "(?:ABSK|bedrock-api-key-)[A-Za-z0-9+/=_-]{60,900}"),
    # cloud.google.com/docs/authentication/api-keys; developers.google.com/identity/protocols/oauth2
    (("AIza",), "AIza[A-Za-z0-9_-]{35,60}"),
    (("ya29.",), r"ya29\.[A-Za-z0-9_.-]{20,600}"),
    (("GOCSPX-",), "GOCSPX-[A-Za-z0-9_-]{24,60}"),
    (("1//0",), "1//0[A-Za-z0-9_-]{30,300}"),
    # learn.microsoft.com/azure/storage/common/storage-configure-connection-string
    (
        ("AccountKey=", "SharedAccessKey="),
        "(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{40,100}={0,2})",
    ),
    # Microsoft Entra client secrets; Azure AI service keys (JQQJ99 at place 52, ACOG behind).
    (("*8Q~", "*7Q~"), r"[A-Za-z0-9_.~-]{3}[78]Q~[A-Za-z0-9_.~-]{31,34}"),
    (("*JQQJ99",), "[A-Za-z0-9]{40,60}JQQJ99[A-Za-z0-9]{20,40}"),
    # docs.digitalocean.com, developers.cloudflare.com (origin CA), devcenter.heroku.com
    (("*_v1_",), "do[opr]_v1_[a-f0-9]{64}"),
    (("v1.0-",), "v1\\.0-[a-f0-9]{24}-[a-f0-9]{146}"),
    (("HRKU-",), "HRKU-[A-Za-z0-9_-]{36,80}"),
    # supabase.com/docs/guides/api/api-keys, planetscale.com/docs
    (("sbp_", "sb_secret_"), "(?:sbp|sb_secret)_[A-Za-z0-9_]{20,80}"),
    (("pscale_",), "pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,64}"),
    # Databricks, HashiCorp's Vault and Terraform, Doppler: their documentation of tokens.
    (("dapi",), "dapi[a-f0-9]{32}(?:-[0-9])?"),
    (("hvs.", "hvb.", "hvr."), r"hv[sbr]\.[A-Za-z0-9_-]{24,300}"),
    (("*.atlasv1.",), r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,80}"),
    (("dp.",), r"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}"),
    # Code.
    # docs.github.com/authentication/keeping-your-account-and-data-secure: token prefixes
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "gh[pousr]_[A-Za-z0-9_.-]{36,520}"),
    (("github_pat_",), "github_pat_[A-Za-z0-9_]{40,255}"),
    # docs.gitlab.com/security/tokens: token prefixes
    (
        ("glpat-", "gloas-", "gldt-", "glrt", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-"),
        "gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent)-[A-Za-z0-9_.=-]{20,300}",
    ),
    (("npm_",), "npm_[A-Za-z0-9]{36,80}"),  # docs.npmjs.com
    (("pypi-",), "pypi-[A-Za-z0-9_-]{60,500}"),  # pypi.org/help: the API tokens
    (("rubygems_",), "rubygems_[a-f0-9]{48}"),
    (("dckr_",), "dckr_(?:pat|oat)_[A-Za-z0-9_-]{24,60}"),
    (("ATATT3", "ATCTT3", "ATBB"), "(?:AT[AC]TT3[A-Za-z0-9_=-]{60,300}|ATBB[A-Za-z0-9]{28,40})"),
    (("PMAK-",), "PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    (("lin_api_",), "lin_api_[A-Za-z0-9]{32,64}"),
    (("ntn_", "secret_"), "(?:ntn_[A-Za-z0-9]{40,60}|secret_[A-Za-z0-9]{43})"),  # Notion
    # Messages and mail.
    # api.slack.com/authentication/token-types; incoming webhooks are secrets too
    (("xox", "xapp-", "xoxe."), "(?:xox[a-z](?:\\.xox[bp])?|xapp)-[A-Za-z0-9-]{10,300}"),
    (
        ("hooks.slack.com/",),
        "hooks\\.slack\\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_-]{20,120})",
    ),
    # core.telegram.org/bots/api#authorizing-your-bot
    (("*:AA",), "[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}"),
    (("*/webhooks/",), "discord(?:app)?\\.com/api/webhooks/([0-9]{17,20}/[A-Za-z0-9_-]{60,80})"),
    (("SK",), "SK[0-9a-f]{32}"),  # www.twilio.com/docs/iam/api-keys
    (("SG.",), r"SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}"),  # docs.sendgrid.com
    (("key-",), "key-[0-9a-f]{32}"),  # Mailgun
    (tuple(f"*-us{digit}" for digit in range(1, 10)), "[0-9a-f]{32}-us[1-9][0-9]?"),  # Mailchimp
    (("xkeysib-", "xsmtpsib-"), "x(?:key|smtp)sib-[a-f0-9]{64}-[A-Za-z0-9]{16}"),  # Brevo
    # Money and shops.
    # docs.stripe.com/keys, docs.stripe.com/webhooks
    (("*k_live_", "*k_test_"), "[sr]k_(?:live|test)_[A-Za-z0-9]{10,250}"),
    (("whsec_",), "whsec_[A-Za-z0-9+/=]{24,100}"),
    (("shpat_", "shpca_", "shppa_", "shpss_"), "shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    (("sq0",), "sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,60}"),  # Square
    # Watching.
    (("glsa_", "glc_"), "(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/=]{32,400})"),
    (("NRAK-",), "NRAK-[A-Z0-9]{27}"),
    (("sntrys_", "sntryu_"), "sntry[su]_[A-Za-z0-9+/=_-]{60,400}"),
    # Keys of people and machines.
    (("AGE-SECRET-KEY-1",), "AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    (("ops_eyJ",), "ops_eyJ[A-Za-z0-9_-]{100,900}"),  # 1Password service accounts
)
"""Published by the services themselves, or in the patterns of secret scanning programs."""

BLOCK: Final = "-----BEGIN "
"""What a key in PEM begins with (RFC 7468)."""

NAMES: Final = (
    "(?:api|app|access|secret|private|auth|session|client|account|subscription|signing|webhook"
    "|encryption|licen[cs]e|refresh|bearer|bot|secret[_ .-]?access)[_ .-]?(?:key|token|secret)"
    "|secret|token|password|passwd|credentials?"
)
"""What a variable or field that holds a key is called; AWS's secret keys have nothing else."""

NAME_WORDS: Final = ("key", "token", "secret", "password", "passwd", "credential", "authorization")
"""One of which is the end of every such name; and what else a header calls it."""
