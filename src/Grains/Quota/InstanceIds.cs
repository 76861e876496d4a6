using System.Security.Cryptography;

namespace GpuTasks.Quota;

/// <summary>Ids of instances: names that are good for containers, sort by time and never repeat.</summary>
public static class InstanceIds
{
    // Lower case without letters that read alike, as containers and people want it.
    private const string Digits = "0123456789abcdefghjkmnpqrstvwxyz";

    /// <summary>Makes an id such as <c>i-01kaq3v9w0-7f3k2m9x</c>: milliseconds, then 40 random bits.</summary>
    public static string New(DateTimeOffset now) => string.Create(21, now.ToUnixTimeMilliseconds(), static (text, milliseconds) =>
    {
        "i-".CopyTo(text);
        for (var i = 11; i >= 2; i--, milliseconds >>= 5)
        {
            text[i] = Digits[(int)(milliseconds & 31)];
        }

        text[12] = '-';
        RandomNumberGenerator.GetItems(Digits, text[13..]);
    });
}
