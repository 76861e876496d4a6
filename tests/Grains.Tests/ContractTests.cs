using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using GpuTasks.Tasks;

namespace GpuTasks.Tests;

/// <summary>
/// Silos of two releases talk to each other during an upgrade, so what they say is written down in OrleansContracts.txt beside
/// the interfaces. A change shows up here: adding is fine (run with UPDATE_CONTRACTS=1 and review the
/// difference), but a renamed, renumbered or retyped line breaks running clusters.
/// </summary>
public sealed class ContractTests
{
    [Fact]
    public void What_crosses_the_wire_is_as_written_down()
    {
        var file = Path.Combine(SourceFolder(), "..", "..", "src", "Grains.Interfaces", "OrleansContracts.txt");
        var now = Describe();
        if (Environment.GetEnvironmentVariable("UPDATE_CONTRACTS") == "1")
        {
            File.WriteAllText(file, now);
        }

        Assert.Equal(File.ReadAllText(file), now);
    }

    private static string Describe()
    {
        var text = new StringBuilder();
        foreach (var type in typeof(ITaskGrain).Assembly.GetExportedTypes().OrderBy(AliasOf, StringComparer.Ordinal))
        {
            if (type.IsInterface && typeof(IGrain).IsAssignableFrom(type))
            {
                text.Append("grain ").Append(AliasOf(type)).Append('\n');
                foreach (var method in type.GetMethods().OrderBy(AliasOf, StringComparer.Ordinal))
                {
                    var parameters = method.GetParameters().Select(p => Name(p.ParameterType)).Where(name => name != nameof(CancellationToken));
                    text.Append("  ").Append(AliasOf(method)).Append('(').AppendJoin(", ", parameters).Append(") -> ").Append(Name(method.ReturnType)).Append('\n');
                }
            }
            else if (type.IsEnum)
            {
                text.Append("enum ").Append(type.FullName).Append('\n');
                foreach (var value in Enum.GetValues(type))
                {
                    text.Append("  ").Append((int)value).Append(' ').Append(value).Append('\n');
                }
            }
            else if (type.GetCustomAttribute<GenerateSerializerAttribute>() is not null)
            {
                text.Append("message ").Append(AliasOf(type)).Append('\n');
                var members = type.GetProperties().Select(p => (p.GetCustomAttribute<IdAttribute>()?.Id, p.Name, p.PropertyType)).Where(m => m.Id is not null);
                foreach (var (id, name, memberType) in members.OrderBy(m => m.Id))
                {
                    text.Append("  ").Append(id).Append(' ').Append(name).Append(": ").Append(Name(memberType)).Append('\n');
                }
            }
        }

        return text.ToString();
    }

    private static string AliasOf(MemberInfo member) => member.GetCustomAttribute<AliasAttribute>()?.Alias ?? (member as Type)?.FullName ?? member.Name;

    private static string Name(Type type) => type.IsGenericType
        ? $"{type.Name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>"
        : type.Name;

    private static string SourceFolder([CallerFilePath] string file = "") => Path.GetDirectoryName(file)!;
}
