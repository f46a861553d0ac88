"""Words with which questions begin, by language: what a searcher types and no manual prints.

The training sources hold no questions. Dressing up queries in these teaches that they say little
about what is looked for.
"""

BEGINNINGS = {
    "en": (
        "What is", "What are", "What does", "How do I", "How can I", "How does", "How many",
        "Where is", "Where can I find", "When was", "When did", "Who was", "Who is", "Why is",
        "Which", "In what year", "What kind of", "What was the name of", "Is there",
        "What effect does", "What is the cause of", "explain", "papers on", "information about",
    ),
    "de": (
        "Was ist", "Was sind", "Wie kann ich", "Wie viele", "Wo ist", "Wo finde ich", "Wann wurde",
        "Wer war", "Warum", "Welche", "In welchem Jahr", "Was bedeutet", "Gibt es",
    ),
    "fr": (
        "Qu'est-ce que", "Quelle est", "Quels sont", "Comment", "Combien de", "Où se trouve",
        "Quand", "Qui était", "Pourquoi", "En quelle année", "À quoi sert",
    ),
    "es": (
        "¿Qué es", "¿Cuál es", "¿Cuáles son", "¿Cómo", "¿Cuántos", "¿Dónde está", "¿Cuándo",
        "¿Quién fue", "¿Por qué", "¿En qué año", "¿Qué tipo de",
    ),
    "it": (
        "Che cos'è", "Qual è", "Quali sono", "Come posso", "Quanti", "Dove si trova", "Quando",
        "Chi era", "Perché", "In quale anno",
    ),
    "pt": ("O que é", "Qual é", "Quais são", "Como", "Quantos", "Onde fica", "Quando", "Quem foi"),
    "pt-br": ("O que é", "Qual é", "Quais são", "Como posso", "Quantos", "Onde fica", "Por que"),
    "nl": ("Wat is", "Wat zijn", "Hoe kan ik", "Hoeveel", "Waar is", "Wanneer", "Wie was", "Waarom"),
    "pl": ("Co to jest", "Jaki jest", "Jak", "Ile", "Gdzie jest", "Kiedy", "Kto", "Dlaczego"),
    "ru": (
        "Что такое", "Какой", "Какие", "Как", "Сколько", "Где находится", "Когда", "Кто был",
        "Почему", "В каком году",
    ),
    "uk": ("Що таке", "Який", "Як", "Скільки", "Де", "Коли", "Хто", "Чому"),
    "cs": ("Co je", "Jaký je", "Jak", "Kolik", "Kde je", "Kdy", "Kdo", "Proč"),
    "sv": ("Vad är", "Hur kan jag", "Hur många", "Var finns", "När", "Vem var", "Varför", "Vilken"),
    "da": ("Hvad er", "Hvordan kan jeg", "Hvor mange", "Hvor er", "Hvornår", "Hvem var", "Hvorfor"),
    "tr": ("Nedir", "Nasıl", "Kaç", "Nerede", "Ne zaman", "Kim", "Neden", "Hangi"),
    "el": ("Τι είναι", "Ποιος", "Πώς", "Πόσα", "Πού", "Πότε", "Γιατί"),
    "vi": ("Làm thế nào để", "Cái gì là", "Bao nhiêu", "Ở đâu", "Khi nào", "Ai là", "Tại sao"),
    "id": ("Apa itu", "Bagaimana cara", "Berapa banyak", "Di mana", "Kapan", "Siapa", "Mengapa"),
    "ar": ("ما هو", "ما هي", "كيف", "كم عدد", "أين", "متى", "من هو", "لماذا"),
    "fa": ("چیست", "چگونه", "چند", "کجا", "چه زمانی", "چه کسی", "چرا"),
    "hi": ("क्या है", "कैसे", "कितने", "कहाँ", "कब", "कौन", "क्यों"),
    "th": ("อะไรคือ", "อย่างไร", "กี่", "ที่ไหน", "เมื่อไหร่", "ใคร", "ทำไม"),
    "zh": ("什么是", "如何", "多少", "哪里", "什么时候", "谁是", "为什么", "哪个"),
    "zh-tw": ("什麼是", "如何", "多少", "哪裡", "什麼時候", "誰是", "為什麼"),
    "ja": ("とは何ですか", "どのように", "いくつの", "どこで", "いつ", "誰が", "なぜ", "何の"),
    "ko": ("무엇입니까", "어떻게", "몇 개의", "어디", "언제", "누가", "왜", "어떤"),
}  # fmt: skip
