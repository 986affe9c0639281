import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes ten transactions of ten records each, gives every second one up, and says where each key went. */
public class Transactions {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("transactional.id", args[1]);
        StringSerializer text = new StringSerializer();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, text, text)) {
            producer.initTransactions();
            for (int turn = 0; turn < 10; turn++) {
                boolean kept = turn % 2 == 0;
                producer.beginTransaction();
                for (int number = 0; number < 10; number++) {
                    String key = "key-" + turn * number;
                    String body = (kept ? "kept " : "given up ") + turn + " " + number;
                    int partition = producer.send(new ProducerRecord<>(args[1], key, body)).get().partition();
                    System.out.println(key + " " + partition);
                }
                if (kept) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
    }
}
