"""How texts ask a model to do something else, in a few languages.

Phrasings are from the published collections of prompt injections (OWASP LLM01; Greshake et al.,
"Not what you've signed up for", 2023; the benchmarks AgentDojo and BIPIA). A list never ends:
whoever writes an injection can read this one.
"""

# ruff: noqa: RUF001 - letters of other scripts look like Latin ones, and are meant
from __future__ import annotations

from typing import Final

PHRASES: Final = (
    # English
    (
        r"(?:ignore|disregard|forget|override|bypass) +(?:(?:all|any|everything|of|the|your|my|"
        r"these|those|our) +){0,4}(?:previous|prior|preceding|above|earlier|foregoing|existing|"
        r"original|system) +(?:instruction|prompt|message|direction|rule|command|guideline|context|"
        r"text)"
    ),
    r"(?:ignore|disregard|forget) +(?:everything|all|anything) +(?:above|before|prior|said|you)",
    (
        r"(?:new|updated|revised|important|urgent|real|actual) +(?:system +)?"
        r"(?:instructions?|prompt) *(?::|from +(?:the +)?(?:system|admin|developer|user|owner))"
    ),
    r"you +are +(?:now|no +longer) +(?:a|an|in|the|dan\b|bound|restricted|required)",
    r"(?:from +now +on|henceforth),? +(?:you|your|act|respond|answer|ignore)",
    (
        r"(?:reveal|print|output|repeat|show|leak|disclose|send)(?: +me| +us)? +(?:your|the) +"
        r"(?:(?:full|entire|hidden|secret|initial|original|complete) +){0,2}"
        r"(?:system +prompt|system +message|instructions|developer +message)"
    ),
    (
        r"do +not +(?:tell|inform|mention|reveal|notify|alert)(?: +(?:this|it|anything))?"
        r"(?: +to)? +the +(?:user|human|operator)"
    ),
    (
        r"(?:this|the +following) +is +(?:an? +)?(?:important +)?(?:message|instruction)s? +"
        r"(?:from|to) +(?:the +)?(?:system|developer|admin|ai|assistant|language +model)"
    ),
    (
        r"(?:attention|note|message|instructions?) +(?:to|for) +(?:the +|any +|all +)?"
        r"(?:ai|llm|assistant|language +model|chatbot|agent)s?\b"
    ),
    (
        r"before +you +(?:can +)?(?:solve|answer|complete|finish|continue)[^.\n]{0,60}"
        r"(?:please +)?(?:do|execute|perform|send|call|transfer)[^.\n]{0,40}\bfirst\b"
    ),
    r"(?:enable|enter|activate|switch +to) +(?:developer|debug|jailbreak|god|dan|admin|root) +mode",
    r"(?:pretend|act) +(?:as +if +)?you +(?:have|had) +no +(?:restriction|rule|guideline|limit)",
    # German
    (
        r"(?:ignorier|vergiss|missacht)[a-z]* +(?:(?:alle|die|deine|sämtliche|bitte|sie|"
        r"ihre) +){0,4}(?:vorherigen|bisherigen|vorigen|obigen|früheren|vorangegangenen|"
        r"ursprünglichen) +(?:anweisung|instruktion|befehl|regel|nachricht|vorgabe)"
    ),
    # French
    (
        r"(?:ignor|oubli)[a-zé]* +(?:(?:toutes?|tous|les|vos|tes|des|ces) +){0,3}"
        r"(?:instructions|consignes|directives|règles|ordres)"
        r"(?: +(?:précédentes|antérieures|ci-dessus|initiales))"
    ),
    # Spanish, Portuguese, Italian
    (
        r"(?:ignor|olvid|esquec|descart|dimentic)[a-záéê]* +(?:(?:todas?|todos?|tutte|"
        r"las|los|as|os|le|tus|sus|suas|tue|el|de) +){0,4}(?:instrucciones|órdenes|reglas|"
        r"indicaciones|instruções|ordens|regras|istruzioni|regole|indicazioni)"
        r"(?: +(?:anteriores|previas|prévias|de arriba|acima|precedenti|sopra))"
    ),
    # Dutch
    (
        r"negeer +(?:(?:alle|de|je|uw) +){0,3}(?:vorige|eerdere|bovenstaande) +"
        r"(?:instructies|opdrachten|regels|berichten)"
    ),
    # Polish
    (
        r"(?:zignoruj|zapomnij|pomiń) +(?:(?:o|wszystkie|wszystkich|swoje) +){0,3}"
        r"(?:poprzedni(?:e|ch)|wcześniejsz(?:e|ych)|powyższe) +"
        r"(?:instrukcj|polece|zasad|reguł)"
    ),
    # Russian, Ukrainian
    (
        r"(?:игнорируй|забудь|"
        r"ігноруй)[а-я]* +(?:(?:все|"
        r"всі|свои) +){0,2}(?:предыдущие|"
        r"попередні|прежние) +"
        r"(?:инструкци|інструкці|"
        r"указани|команд|сообщени)"
    ),
    # Chinese, Japanese, Korean
    (
        r"(?:忽略|忽视|无视|無視|忘记|忘記)"
        r"(?:你|所有|之前|以上|先前|上述|前面|"
        r"的|全部|一切){0,6}(?:指令|指示|提示|规则|規則|命令)"
    ),
    (
        r"(?:以前|これまで|上記|前)の(?:すべての|全ての)?"
        r"(?:指示|命令|プロンプト|ルール)を?(?:すべて|全て)?無視"
    ),
    (
        r"(?:이전|앞의|위의|기존)의? *(?:모든 *)?"
        r"(?:지시|명령|지침|프롬프트)(?:사항)?(?:을|를)? *"
        r"(?:모두 *)?무시"
    ),
    # Arabic, Hindi, Turkish
    (
        r"(?:تجاهل|انس) +(?:جميع +|كل +)?"
        r"(?:التعليمات|الأوامر)"
        r" +(?:السابقة|أعلاه)"
    ),
    (
        r"(?:पिछले|पिछली|उपरोक्त)"
        r" +(?:सभी +)?(?:निर्देशों|निर्देश|आदेशों)"
    ),
    r"önceki +(?:tüm +)?(?:talimat|yönerge|komut|kural)[a-zı]* +(?:yok +say|görmezden|unut)",
)
"""Matched against folded text in which any run of blanks is one space."""
