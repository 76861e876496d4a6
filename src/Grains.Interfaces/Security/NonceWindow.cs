using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Security;

/// <summary>
/// The nonces of one access key that could still be replayed. Its memory is bounded: when it is full, the oldest dates
/// are forgotten and requests of those dates are refused from then on, so that forgetting never permits a replay.
/// </summary>
/// <param name="capacity">Most nonces to remember.</param>
/// <param name="skew">How old a date may be.</param>
public sealed class NonceWindow(int capacity, TimeSpan skew)
{
    private readonly Lock gate = new();
    private readonly SortedDictionary<long, HashSet<UInt128>> bySecond = [];
    private int count;
    private long forgottenSecond = long.MinValue;

    /// <summary>Number of nonces remembered.</summary>
    public int Count
    {
        get { lock (gate) { return count; } }
    }

    /// <summary>Remembers a nonce, or tells why it is not accepted.</summary>
    /// <param name="nonce">Nonce of a request whose signature is right.</param>
    /// <param name="date">Date that the request was signed with; whole seconds.</param>
    /// <param name="now">Our clock.</param>
    public NonceVerdict Use(string nonce, DateTimeOffset date, DateTimeOffset now)
    {
        var hash = Fingerprint(nonce);
        var second = date.ToUnixTimeSeconds();
        lock (gate)
        {
            while (bySecond.Count > 0 && bySecond.First() is var oldest && oldest.Key < (now - skew).ToUnixTimeSeconds())
            {
                Forget(oldest);
            }

            if (second <= forgottenSecond)
            {
                return NonceVerdict.TooOld;
            }

            if (!bySecond.TryGetValue(second, out var set))
            {
                bySecond[second] = set = [];
            }

            // The date is signed too, so a replay carries the same second.
            if (!set.Add(hash))
            {
                return NonceVerdict.Used;
            }

            count++;
            while (count > capacity)
            {
                Forget(bySecond.First());
            }

            return NonceVerdict.Fresh;
        }
    }

    private void Forget(KeyValuePair<long, HashSet<UInt128>> oldest)
    {
        bySecond.Remove(oldest.Key);
        count -= oldest.Value.Count;
        forgottenSecond = Math.Max(forgottenSecond, oldest.Key);
    }

    private static UInt128 Fingerprint(string nonce)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(Encoding.UTF8.GetBytes(nonce), hash);
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt128LittleEndian(hash);
    }
}
