/* The short text that carat ships for quality figures: plain English prose written for this purpose and free of any licence
 * but the project's own. About 1,200 tokens: two chunks of 512 under the protocol of eval.c. Changing a letter changes every
 * recorded perplexity: don't. */
#include "bench/bench.h"

static const char text[] =
    "The ferry to the island leaves twice a day, once before the town is awake and once after the shops have closed. In between "
    "the boat lies at the quay with its engine off, and the captain, a quiet woman named Ruth, mends nets for her brother or "
    "sleeps in the wheelhouse with a newspaper over her face. People who miss the morning crossing learn to be patient. There is "
    "a bench in the sun, a kiosk that sells coffee and stale buns, and a view across the sound that changes every hour.\n\n"
    "I missed it on a Tuesday in April. The train had been late, the bus had not waited, and when I came around the corner with "
    "my bag over my shoulder I saw the white wake already bending towards the lighthouse. A man who was painting the railing "
    "looked up and said that there would be another one at six. He said it kindly, as one tells a child that summer will come "
    "back. Then he dipped his brush and went on with his work.\n\n"
    "So I had nine hours. At first I did what anyone would do: I was angry with the railway, then with myself, and then I walked "
    "up and down the quay as if walking could bring the boat back. After a while I sat down. The tide was going out. Along the "
    "harbour wall the water sank and left a dark band of weed, and in the weed small crabs moved sideways from one puddle to the "
    "next. Two boys with a bucket were catching them with a piece of bacon on a string. They did not keep any. They counted them, "
    "wrote the number on the wall with chalk, and tipped the bucket back into the sea.\n\n"
    "\"What is the record?\" I asked.\n\n"
    "\"Forty-one,\" said the older one. \"But that was with chicken.\"\n\n"
    "Towards noon the wind turned and brought the smell of bread. I followed it through two narrow streets to a bakery with a "
    "blue door. Inside it was warm and almost dark. The baker explained, although I had not asked, that the oven was older than "
    "the house, that the house had been built around it after a fire, and that nobody alive knew how hot it really was. He "
    "judged the heat by throwing a pinch of flour on the stone and counting how long it took to turn brown. If it took less than "
    "five seconds he waited; if it took more than ten he added wood. \"A thermometer tells you a number,\" he said. \"The flour "
    "tells you what will happen to the bread.\" I bought a loaf that was too large for one person and ate most of it on the way "
    "back to the water.\n\n"
    "There is an old rule among sailors that a calm harbour teaches nothing. I am not sure that it is true. In the afternoon the "
    "sound was as flat as a plate, and I learned more about it than in all the crossings I had made before. I saw that the "
    "current runs north along the near shore and south along the far one, because a cork that somebody had dropped went out past "
    "the pier and came back an hour later on the other side. I saw that gulls rest in rows, all facing the wind, and that the "
    "row turns together when the wind turns, like the needle of a compass made of birds. I saw that the island, which looks "
    "green from the boat, is in fact brown for most of the day and becomes green only when the sun stands low enough to shine "
    "through the grass instead of onto it.\n\n"
    "Ruth woke up at four. She folded the newspaper, filled a kettle from a bottle, and waved me over. She had seen me miss the "
    "boat, she said, and she had thought about turning around. But there were eleven people on board who had been on time, and "
    "one of them had to catch a doctor. She asked what I was going to do on the island. I told her that my aunt had left me a "
    "house there, that I had not seen it since I was nine years old, and that I was supposed to decide before the end of the "
    "month whether to sell it. She nodded as if this were the most ordinary errand in the world.\n\n"
    "\"Which house?\"\n\n"
    "\"The one behind the chapel, with the walnut tree.\"\n\n"
    "\"The tree came down two winters ago,\" she said. \"It missed the roof by an arm's length. Your aunt had it cut into boards "
    "and they are drying in the shed. She wanted a table made of them, a long one, so that everybody could sit on one side and "
    "look at the sea. She told me the measurements. I may still have them somewhere.\"\n\n"
    "She went into the wheelhouse and came back with an envelope on which someone had drawn a table, seen from above, with ten "
    "small circles for the chairs. Beside one of the circles stood my name. I looked at it for a long time. I had not known that "
    "she thought of me at all. We had exchanged cards at New Year, and once, when I was in hospital, she had sent a jar of honey "
    "without a letter.\n\n"
    "At half past five the passengers began to arrive: a teacher with a cello, a family with three bicycles, a man carrying a "
    "window frame. They greeted each other and looked at me with polite interest. The boys with the bucket had gone home, but "
    "their number stood on the wall, and it was forty-three. Ruth started the engine. The deck trembled, the ropes came in, and "
    "the town slid backwards with its church and its cranes and its single traffic light. When we passed the lighthouse I turned "
    "around to see what I had been looking at all day, and found that from the water the bench was too small to be seen.\n\n"
    "I did not sell the house. It took two years to learn how to plane a board, and another to admit that I would never be good "
    "at it. The table stands on the grass behind the chapel from May until October. It is not quite level, and it is a little "
    "shorter than the one in the drawing, because the last plank split. But nine people can sit at it, all on one side, and look "
    "at the sea; and when somebody misses the ferry in the morning, I tell them that there will be another one at six.\n";

const char *ct_quality_text(size_t *n)
{
    *n = sizeof text - 1;
    return text;
}
