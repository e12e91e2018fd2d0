"""Words that a text is compared with where there are no reference images.

Common nouns of many kinds, chosen without regard to any data set.
"""

_TEXT = """
airport anchor ankle arrow bakery balcony basket battery beach bicycle blanket bottle
bridge broom bucket butterfly button cabin camera candle canyon carpet castle ceiling
chain chair cheese chimney church clock cloud coat coin compass crowd curtain desert
dinner dog drum engine envelope farmer feather fence field finger flag flower forest
fountain garage glacier glove guitar hammer harbour hat hill horse hospital island jacket
kettle ladder lake lamp letter library lion mirror mountain mouse nurse ocean onion
orchard paper parade pencil piano pillow pocket puddle queen rail ribbon river rocket roof
rope salad sand scissors shadow shelf ship shoulder smoke snow soldier spoon stairs stone
street sugar table teacher theatre thread ticket tower tractor tree tunnel umbrella valley
violin wagon wall wheel window wolf yard
"""

RANDOM_WORDS = tuple(_TEXT.split())
