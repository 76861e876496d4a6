using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace GpuTasks.Destinations;

/// <summary>When a delivery that was not made is tried again. Pure: its jitter comes from the delivery's id.</summary>
public static class DeliveryPlan
{
    /// <summary>How long a delivery is tried before it becomes a dead letter: 24 h from the task's end, or from its replay.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromHours(24);

    /// <summary>Pause after the first miss, before jitter.</summary>
    public static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1);

    /// <summary>Longest pause, before what the receiver itself asks for.</summary>
    public static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(10);

    /// <summary>
    /// Pause after a miss: doubles from 1 s to 10 min, less up to half of it, so that deliveries which missed together do not
    /// come back together.
    /// </summary>
    /// <param name="deliveryId">The delivery.</param>
    /// <param name="pauses">Pauses before this one.</param>
    public static TimeSpan PauseAfter(string deliveryId, int pauses)
    {
        var whole = pauses >= 10 ? LongestPause : TimeSpan.FromTicks(Math.Min(LongestPause.Ticks, FirstPause.Ticks << pauses));
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(Encoding.UTF8.GetBytes($"{deliveryId}/{pauses}"), hash);
        var share = BinaryPrimitives.ReadUInt32LittleEndian(hash) / (double)uint.MaxValue;
        return whole * (1 - (share / 2));
    }

    /// <summary>
    /// When to try next, or null if the delivery is given up. The last try is at the end of its time, and a pause that the
    /// receiver asks for goes no further than that.
    /// </summary>
    /// <param name="deliveryId">The delivery.</param>
    /// <param name="pauses">Pauses before this one.</param>
    /// <param name="since">When its time began.</param>
    /// <param name="now">When it was missed.</param>
    /// <param name="retryAfter">What the receiver asks for, or null.</param>
    public static DateTimeOffset? Next(string deliveryId, int pauses, DateTimeOffset since, DateTimeOffset now, TimeSpan? retryAfter)
    {
        var end = since + Patience;
        if (now >= end)
        {
            return null;
        }

        var pause = PauseAfter(deliveryId, pauses);
        pause = retryAfter > pause ? retryAfter.Value : pause;
        return pause < end - now ? now + pause : end;
    }
}
