using System.Text;

namespace GpuTasks.Storage;

/// <summary>A prefix as the half-open range of texts that start with it, in byte order.</summary>
internal static class KeyRange
{
    /// <summary>False for text that no stored key can start with: PostgreSQL knows no NUL, and lone surrogates are no text.</summary>
    public static bool IsPossible(string prefix)
    {
        for (var i = 0; i < prefix.Length; i++)
        {
            if (prefix[i] == '\0' || (char.IsSurrogate(prefix[i]) && !char.IsSurrogatePair(prefix, i++)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The first text after all that start with <paramref name="prefix"/>, or null if nothing comes after them.</summary>
    public static string? End(string prefix)
    {
        var runes = prefix.EnumerateRunes().ToArray();
        for (var i = runes.Length - 1; i >= 0; i--)
        {
            if (Next(runes[i]) is { } next)
            {
                return string.Concat(runes.Take(i).Select(r => r.ToString())) + next;
            }
        }

        return null;
    }

    private static Rune? Next(Rune rune) => rune.Value switch
    {
        0x10FFFF => null,
        0xD7FF => new Rune(0xE000),
        _ => new Rune(rune.Value + 1),
    };
}
