using System.Security.Cryptography;
using System.Xml.Linq;
using GpuTasks.Storage;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.DataProtection.KeyManagement;
using Microsoft.AspNetCore.DataProtection.Repositories;
using Microsoft.Extensions.Options;

namespace GpuTasks.Secrets;

/// <summary>
/// Encrypts what is stored and marked secret, with the framework's data protection. The ring lies in a container of its own,
/// since it is first read once the store's schema is there, and must not be mixed with what else a process protects.
/// </summary>
internal sealed class SecretProtector : IDisposable
{
    /// <summary>Starts every encrypted value; anything else was stored before there was encryption.</summary>
    public const string Prefix = "enc:1:";

    private readonly ServiceProvider services;
    private readonly Lazy<IDataProtector> protector;

    public SecretProtector(SecretOptions options, StoreDatabase database)
    {
        if (options.FindFaults() is { Count: > 0 } faults)
        {
            throw new OptionsValidationException(nameof(SecretOptions), typeof(SecretOptions), faults);
        }

        var container = new ServiceCollection();
        var builder = container.AddDataProtection()
            .SetApplicationName("gputasks")
            .SetDefaultKeyLifetime(TimeSpan.FromDays(options.RotationDays));
        var folder = options.Folder.Length > 0 ? options.Folder
            : database.Provider == StoreProvider.Sqlite ? Path.Combine(Path.GetDirectoryName(Path.GetFullPath(database.Options.Path))!, "secrets")
            : null;
        if (folder is not null)
        {
            var info = Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            builder.PersistKeysToFileSystem(info);
        }
        else
        {
            container.Configure<KeyManagementOptions>(keys => keys.XmlRepository = new KeyRingTable(database));
        }

        if (options.Certificates() is [var newest, ..] certificates)
        {
            builder.ProtectKeysWithCertificate(newest).UnprotectKeysWithAnyCertificate([.. certificates]);
        }

        services = container.BuildServiceProvider();
        protector = new Lazy<IDataProtector>(() => services.GetRequiredService<IDataProtectionProvider>().CreateProtector("store"));
    }

    /// <summary>The keys, for those who rotate them.</summary>
    public IKeyManager Keys => services.GetRequiredService<IKeyManager>();

    /// <summary>Encrypts a value.</summary>
    public string Protect(string value) => Prefix + protector.Value.Protect(value);

    /// <summary>Decrypts a value; one that was stored in the clear is given back as it is.</summary>
    /// <exception cref="CryptographicException">The ring lacks the key.</exception>
    public string Unprotect(string stored) => stored.StartsWith(Prefix, StringComparison.Ordinal) ? protector.Value.Unprotect(stored[Prefix.Length..]) : stored;

    public void Dispose() => services.Dispose();

    /// <summary>The ring as rows of the database.</summary>
    private sealed class KeyRingTable(StoreDatabase database) : IXmlRepository
    {
        public IReadOnlyCollection<XElement> GetAllElements()
        {
            using var connection = database.DataSource.OpenConnection();
            using var command = connection.CreateCommand();
            command.CommandText = "select xml from key_ring";
            using var reader = command.ExecuteReader();
            var elements = new List<XElement>();
            while (reader.Read())
            {
                elements.Add(XElement.Parse(reader.GetString(0)));
            }

            return elements;
        }

        public void StoreElement(XElement element, string friendlyName)
        {
            using var connection = database.DataSource.OpenConnection();
            using var command = connection.CreateCommand();
            command.CommandText = "insert into key_ring (name, xml) values (@name, @xml)";
            foreach (var (name, value) in new[] { ("name", friendlyName), ("xml", element.ToString(SaveOptions.DisableFormatting)) })
            {
                var parameter = command.CreateParameter();
                parameter.ParameterName = name;
                parameter.Value = value;
                command.Parameters.Add(parameter);
            }

            command.ExecuteNonQuery();
        }
    }
}
